// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// Why a port specification was refused, and the part that is wrong.
public struct PortSpecificationError: Error, Hashable, Sendable {
    /// The kinds of refusal (tapas(1), "Port specifications").
    public enum Kind: Hashable, Sendable {
        /// The text does not follow the grammar.
        case syntax
        /// `none` is combined with something else.
        case noneNotAlone
        /// A port above 65535, a range that ends before it begins, or ranges of different widths.
        case range
        /// Port 0.
        case portZero
        /// No interface can have such a name.
        case interfaceName
        /// A listening address or interface where only loopback is possible (`-T`, `-U`).
        case bindNotAllowed
        /// A target where none is possible.
        case targetNotAllowed
        /// A target address, while both families are listened on.
        case targetNeedsAddress
        /// A target address of another family than the listening one.
        case familyMismatch
        /// A target address that is not a single host.
        case multicastTarget
        /// An address of a family that is switched off.
        case familyDisabled
        /// `all` is combined with a port or a range.
        case mixed
        /// A port that is named twice.
        case conflict
        /// More than 255 contiguous runs of ports.
        case tooManyRules
    }

    /// The whole specification.
    public var specification: String
    /// Where the wrong part begins, in UTF-8 bytes from the start.
    ///
    /// It is the length of the whole if something is missing at its end.
    public var offset: Int
    /// The length of the wrong part in UTF-8 bytes; 0 if something is missing.
    public var length: Int
    /// The kind of refusal.
    public var kind: Kind
    /// The reason and, if there is one, the remedy, in words.
    public var reason: String

    /// Makes an error.
    init(_ kind: Kind, in specification: String, at range: Range<Int>, _ reason: String) {
        self.specification = specification
        self.offset = range.lowerBound
        self.length = range.count
        self.kind = kind
        self.reason = reason
    }

    /// The wrong part.
    public var offendingPart: String {
        let bytes = Array(specification.utf8)
        let start = min(max(offset, 0), bytes.count)
        let end = min(start + max(length, 0), bytes.count)
        return String(decoding: bytes[start..<end], as: UTF8.self)
    }

    /// The specification with `^` in front of the wrong part: `'2000-2010:^3000'`.
    public var marked: String {
        let bytes = Array(specification.utf8)
        let start = min(max(offset, 0), bytes.count)
        let before = String(decoding: bytes[..<start], as: UTF8.self)
        let after = String(decoding: bytes[start...], as: UTF8.self)
        // Of a long list, only the surroundings of the wrong part are shown.
        let context = 60
        let head = before.count > context ? "..." + before.suffix(context) : before
        let tail = after.count > context ? after.prefix(context) + "..." : after
        return "'\(printable(head))^\(printable(tail))'"
    }
}

extension PortSpecificationError: CustomStringConvertible {
    /// One line: the specification with the wrong part marked, and the reason.
    public var description: String { "\(marked): \(reason)" }
}

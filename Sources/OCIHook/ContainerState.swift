// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import JSON

/// The state of a container, as a runtime gives it to a hook on standard input (OCI runtime specification, "State").
public struct ContainerState: Hashable, Sendable {
    /// The longest state that is read, in bytes.
    public static let greatestLength = 1 << 20

    /// The container's id, unique for the runtime.
    public var id: String
    /// The id of the container's process in the hook's process namespace; 0 if there is none, or none that is visible
    /// there.
    public var processID: Int32
    /// `creating`, `created`, `running` or `stopped`; empty if the runtime does not say.
    public var status: String
    /// The annotations of the container's configuration.
    public var annotations: [String: String]

    /// Reads a state.
    ///
    /// - Parameter bytes: the bytes that the runtime wrote.
    /// - Throws: The error in it.
    public init(parsing bytes: [UInt8]) throws(HookError) {
        func failure(_ problem: String) -> HookError { HookError("the container's state on standard input", problem) }
        guard !bytes.isEmpty else {
            throw failure("is empty: this program is started by an OCI runtime (see tapas-oci-hook(1))")
        }
        guard bytes.count <= Self.greatestLength else { throw failure("is longer than \(Self.greatestLength) bytes") }
        let state: JSONValue
        do throws(JSONError) {
            state = try JSONValue(parsing: bytes)
        } catch {
            throw failure("is no JSON: \(error)")
        }
        guard state.object != nil else { throw failure("is no JSON object") }
        guard let version = state["ociVersion"]?.string else { throw failure("has no ociVersion") }
        guard version == "1" || version.hasPrefix("1.") else {
            throw failure("has ociVersion \(quoted(version)); 1.x is understood")
        }
        guard let id = state["id"]?.string, !id.isEmpty else { throw failure("has no id") }
        guard id.utf8.count <= 1024 else { throw failure("has an id of more than 1024 bytes") }
        self.id = id
        switch state["pid"] {
        case nil, .null: processID = 0
        case .integer(let number)?:
            guard let number = Int32(exactly: number), number >= 0 else { throw failure("has no process id in pid") }
            processID = number
        default: throw failure("has no process id in pid")
        }
        switch state["status"] {
        case nil, .null: status = ""
        case .string(let text)?: status = text
        default: throw failure("has a status that is no string")
        }
        annotations = [:]
        switch state["annotations"] {
        case nil, .null: break
        case .object(let object)?:
            for member in object.members {
                guard let text = member.value.string else {
                    throw failure("has an annotation \(quoted(member.name)) that is no string")
                }
                annotations[member.name] = text
            }
        default: throw failure("has annotations that are no object")
        }
    }

    /// The id as a file name: bytes other than letters, digits, `-`, `_` and `.` become `%XX`, a leading dot too.
    ///
    /// - Returns: The name; nil if it would be too long for a file system.
    public var fileName: String? {
        let digits = Array("0123456789ABCDEF")
        var name = ""
        for (index, byte) in id.utf8.enumerated() {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"):
                name.unicodeScalars.append(Unicode.Scalar(byte))
            case UInt8(ascii: ".") where index > 0: name += "."
            default: name += "%\(digits[Int(byte >> 4)])\(digits[Int(byte & 15)])"
            }
        }
        return name.utf8.count <= 200 ? name : nil
    }
}

// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// The specifier of -t, -u, -T and -U, as a pure function from text to rules.
//
//     spec    = "none" | [ bind ] , chunk , { "," , chunk } ;
//     bind    = ( addr , [ "%" , ifname ] | [ "*" ] , [ "%" , ifname ] ) , "/" ;
//     chunk   = "all" , [ ":" , addr ] | "auto" | "~" , range | range , [ ":" , target ] ;
//     target  = addr , "/" , range | addr | range ;
//     range   = port , [ "-" , port ] ;
//
// There are three steps. The text is split into a bind and chunks, each with its position (the first half of this
// file). Exclusions are collected from all chunks. Then the included ranges (or all ports, if only `all`, `auto` or
// exclusions are given) are split into contiguous runs, one rule each. A '/' may belong to the bind or to a target, and
// IPv6 addresses need no brackets. So the first '/' decides: the text before it is a bind, unless it can only be the
// beginning of a chunk.

public import NetworkModel
public import NetworkTypes

/// The grammar of port specifications (tapas(1), "Port specifications").
public enum PortSpecification {
    /// The specification that forwards nothing and suppresses the default.
    public static let none = "none"

    /// Parses a specification into the rules it stands for.
    ///
    /// - Parameters:
    ///   - text: The specification, as given to the option.
    ///   - direction: Which side listens; `-T` and `-U` take no listening address.
    ///   - transport: The protocol of the rules.
    ///   - families: The families in use; the wildcard is narrowed to the only one.
    ///   - ephemeralRange: The listening side's ephemeral ports, which `all`, `auto` and exclusions alone leave out.
    /// - Returns: One rule for each contiguous run of ports, in the order of the text; none for `none`, or if the
    ///   exclusions leave nothing. The rules do not conflict.
    /// - Throws: The error and its position.
    public static func parse(
        _ text: String, direction: ForwardDirection, transport: TransportProtocol,
        families: Set<AddressFamily> = [.v4, .v6], ephemeralRange: ClosedRange<Port> = EphemeralRange.fallback
    ) throws(PortSpecificationError) -> [PortForward] {
        if text == none { return [] }
        let reader = PortSpecificationReader(text, direction: direction, families: families)
        let bind = try reader.readBind()
        let chunks = try reader.readChunks(from: bind.end)

        let exclusions = mergedExclusions(of: chunks)
        let isScanned = chunks.contains { $0.content == .auto }
        let includes = chunks.filter(\.isInclude)
        var builder = RuleBuilder(
            reader: reader, bind: bind, exclusions: exclusions, direction: direction, transport: transport)

        if includes.isEmpty {
            let target = try allTarget(of: chunks, reader)
            for range in outside(ephemeralRange) {
                try builder.add(
                    range, target: .init(first: range.lowerBound, address: target),
                    policy: isScanned ? .scanned : .bestEffort, source: 0..<reader.bytes.count)
            }
            return builder.rules
        }
        if let all = chunks.first(where: \.isAll) {
            throw reader.error(
                .mixed, at: all.source, "'all' beside a port or a range says two things; give one of them")
        }
        for chunk in includes {
            guard case .include(let range, let target) = chunk.content else { continue }
            try builder.add(
                range, target: target, policy: isScanned ? .scanned : .explicit, source: chunk.source)
        }
        return builder.rules
    }

    /// The rules of `auto`, the default of an option that is not given.
    ///
    /// - Parameters:
    ///   - direction: Which side listens.
    ///   - transport: The protocol of the rules.
    ///   - families: The families in use.
    ///   - ephemeralRange: The listening side's ephemeral ports, which are left out.
    /// - Returns: One rule below and one above the ephemeral ports, if there are ports there.
    public static func automatic(
        direction: ForwardDirection, transport: TransportProtocol, families: Set<AddressFamily> = [.v4, .v6],
        ephemeralRange: ClosedRange<Port> = EphemeralRange.fallback
    ) -> [PortForward] {
        outside(ephemeralRange).map { range in
            PortForward(
                direction: direction, transport: transport, address: PortSpecificationReader.wildcard(of: families),
                first: Port(range.lowerBound), last: Port(range.upperBound), targetFirst: Port(range.lowerBound),
                policy: .scanned)
        }
    }

    /// All ports but the ephemeral ones.
    private static func outside(_ ephemeralRange: ClosedRange<Port>) -> [ClosedRange<UInt16>] {
        RuleBuilder.subtract(
            [ephemeralRange.lowerBound.rawValue...ephemeralRange.upperBound.rawValue], from: 1...UInt16.max)
    }

    /// The excluded ranges, sorted, with overlapping ones joined.
    private static func mergedExclusions(of chunks: [PortSpecificationReader.Chunk]) -> [ClosedRange<UInt16>] {
        var merged: [ClosedRange<UInt16>] = []
        let excluded = chunks.compactMap { chunk in
            if case .exclude(let range) = chunk.content { range } else { nil }
        }
        for range in excluded.sorted(by: { $0.lowerBound < $1.lowerBound }) {
            if let last = merged.last, range.lowerBound <= last.upperBound {
                merged[merged.count - 1] = last.lowerBound...max(last.upperBound, range.upperBound)
            } else {
                merged.append(range)
            }
        }
        return merged
    }

    /// The target of `all:ADDR`; several must be equal.
    private static func allTarget(
        of chunks: [PortSpecificationReader.Chunk], _ reader: PortSpecificationReader
    ) throws(PortSpecificationError) -> IPAddress? {
        var found: IPAddress??
        for chunk in chunks {
            guard case .all(let target) = chunk.content else { continue }
            if let found, found != target {
                throw reader.error(.conflict, at: chunk.source, "'all' is given twice, with different targets")
            }
            found = .some(target)
        }
        return found ?? nil
    }
}

/// Splits ranges into contiguous runs and makes the rules.
private struct RuleBuilder {
    let reader: PortSpecificationReader
    let bind: PortSpecificationReader.Bind
    let exclusions: [ClosedRange<UInt16>]
    let direction: ForwardDirection
    let transport: TransportProtocol
    private(set) var rules: [PortForward] = []

    init(
        reader: PortSpecificationReader, bind: PortSpecificationReader.Bind, exclusions: [ClosedRange<UInt16>],
        direction: ForwardDirection, transport: TransportProtocol
    ) {
        self.reader = reader
        self.bind = bind
        self.exclusions = exclusions
        self.direction = direction
        self.transport = transport
    }

    /// Adds the rules of a range of listening ports, without the exclusions.
    mutating func add(
        _ range: ClosedRange<UInt16>, target: PortSpecificationReader.Target, policy: PortForward.Policy,
        source: Range<Int>
    ) throws(PortSpecificationError) {
        for run in Self.subtract(exclusions, from: range) {
            // Widths are equal and the target's end was checked, so this stays below 65536.
            let targetFirst = target.first &+ (run.lowerBound - range.lowerBound)
            let rule = PortForward(
                direction: direction, transport: transport, address: bind.address, interface: bind.interface,
                first: Port(run.lowerBound), last: Port(run.upperBound), targetFirst: Port(targetFirst),
                targetAddress: target.address, policy: policy)
            if rules.contains(where: { $0.first <= rule.last && rule.first <= $0.last }) {
                throw reader.error(.conflict, at: source, "a port that this names is named before it")
            }
            guard rules.count < ForwardRuleSet.ruleLimit else {
                throw reader.error(
                    .tooManyRules, at: source,
                    "more than \(ForwardRuleSet.ruleLimit) contiguous runs of ports; use ranges")
            }
            rules.append(rule)
        }
    }

    /// The rest of a range after removing sorted, disjoint ranges.
    static func subtract(_ taken: [ClosedRange<UInt16>], from range: ClosedRange<UInt16>) -> [ClosedRange<UInt16>] {
        var left: [ClosedRange<UInt16>] = []
        var next = range.lowerBound
        for gap in taken where gap.overlaps(range) {
            if gap.lowerBound > next { left.append(next...(gap.lowerBound - 1)) }
            if gap.upperBound >= range.upperBound { return left }
            next = max(next, gap.upperBound + 1)
        }
        left.append(next...range.upperBound)
        return left
    }
}

// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import HostMonitor
internal import NetworkModel
internal import NetworkTypes
internal import Options

/// The resolv.conf(5) of a wrapped command: one that names the address at which its queries are forwarded for the
/// namespace's life (decision 0023).
enum CommandResolver {
    /// Its text, from the host's file as it is now; nil if the command keeps the host's.
    static func text(_ invocation: Invocation) -> String? {
        let addresses = addresses(invocation)
        guard !addresses.isEmpty else { return nil }
        var host: [UInt8] = []
        if case .text(let bytes) = ResolverFile.read() { host = bytes }
        return text(naming: addresses, search: invocation.searchDomains, host: host)
    }

    /// The addresses that forward queries, whatever the host has, as they stand in the file.
    private static func addresses(_ invocation: Invocation) -> [String] {
        let configuration = invocation.configuration
        guard invocation.isSpawn, invocation.mountsResolver, !invocation.spliceOnly, configuration.configuresNamespace
        else { return [] }
        let families = AddressFamily.allCases.filter(configuration.families.contains)
        let given = families.compactMap { configuration.dnsForward[$0] }.map(\.description)
        guard given.isEmpty, configuration.networkMode == .opaque, !configuration.suppressesDNS else { return given }
        // The address that --mode opaque has for the host; an IPv6 one needs the interface beside it.
        return families.contains(.v4) ? ["169.254.2.2"] : ["fe80::1%\(configuration.interfaceName ?? "tap0")"]
    }

    /// The text for given addresses.
    ///
    /// - Parameters:
    ///   - addresses: what stands behind `nameserver`.
    ///   - search: `-S`; nil keeps what the host's file says.
    ///   - host: the host's file, whose other lines are kept.
    /// - Returns: the text, with a line that says whose file it is.
    static func text(naming addresses: [String], search: [String]?, host: [UInt8]) -> String {
        var lines = ["# Made by tapas for this command; --no-resolv-conf leaves the host's."]
        lines += addresses.map { "nameserver \($0)" }
        if let search { lines.append("search \(search.isEmpty ? "." : search.joined(separator: " "))") }
        let dropped: Set<String> = search == nil ? ["nameserver"] : ["nameserver", "search", "domain"]
        for line in host.split(separator: UInt8(ascii: "\n")) where !line.contains(0) {
            let text = String(decoding: line, as: UTF8.self)
            guard let word = text.split(whereSeparator: { $0 == " " || $0 == "\t" }).first else { continue }
            guard let first = word.first, first != "#", first != ";", !dropped.contains(String(word)) else { continue }
            lines.append(text)
        }
        return lines.joined(separator: "\n") + "\n"
    }
}

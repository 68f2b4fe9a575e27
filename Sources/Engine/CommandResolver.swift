// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import HostMonitor
internal import NetworkModel
internal import NetworkTypes
internal import Options

/// The resolv.conf(5) of a wrapped command.
///
/// It names the address that forwards the command's queries as long as the
/// namespace exists (decision 0023).
enum CommandResolver {
    /// Its text, made from the host's present file; nil if the command keeps the host's file.
    static func text(_ invocation: Invocation) -> String? {
        let addresses = addresses(invocation)
        guard !addresses.isEmpty else { return nil }
        var host: [UInt8] = []
        if case .text(let bytes) = ResolverFile.read() { host = bytes }
        return text(naming: addresses, search: invocation.searchDomains, host: host)
    }

    /// The addresses that forward queries independently of the host, as the file has them.
    private static func addresses(_ invocation: Invocation) -> [String] {
        let configuration = invocation.configuration
        guard invocation.isSpawn, invocation.mountsResolver, !invocation.spliceOnly, configuration.configuresNamespace
        else { return [] }
        let families = AddressFamily.allCases.filter(configuration.families.contains)
        let given = families.compactMap { configuration.dnsForward[$0] }.map(\.description)
        guard given.isEmpty, configuration.networkMode == .opaque, !configuration.suppressesDNS else { return given }
        // The host's address in --mode opaque; an IPv6 address needs the interface's name as well.
        return families.contains(.v4) ? ["169.254.2.2"] : ["fe80::1%\(configuration.interfaceName ?? "tap0")"]
    }

    /// The text for given addresses.
    ///
    /// - Parameters:
    ///   - addresses: the values of the `nameserver` lines.
    ///   - search: `-S`; nil keeps the `search` line of the host's file.
    ///   - host: the host's file; its other lines are kept.
    /// - Returns: the text; its first line says which program has made the file.
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

// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import Options

/// The arguments with which the hook starts tapas for a container.
///
/// Theory of operation. Options come from three places, in this order: the system's `hook.conf`, the user's, and the
/// container's annotations. Only annotations are restricted to the allowed options; the files belong to the host's
/// owner. Everything that the options do not open is closed: no port is forwarded, and nothing leads to the host's
/// loopback.
public struct HookCommand: Hashable, Sendable {
    /// The annotation that holds options.
    public static let optionsAnnotation = "io.tapas.options"
    /// The annotation that turns the hook off.
    public static let enableAnnotation = "io.tapas.enable"
    /// The annotation that holds ports to publish.
    public static let publishAnnotation = "io.tapas.publish"

    /// The arguments, without the program's name, the pid file and the process id.
    public var arguments: [String]
    /// The annotations and files that options came from, for messages about options that tapas refuses later.
    public var sources: [String]
    /// Whether the options name the namespace; if not, the container's process id is the operand.
    public var namesNamespace: Bool

    /// Decides what to start.
    ///
    /// - Parameters:
    ///   - state: the container's state.
    ///   - system: the system's file.
    ///   - user: the user's file; its settings replace the system's, but it cannot allow more options.
    /// - Returns: The command; nil if the container should not be attached.
    /// - Throws: What is wrong, with the annotation or the file.
    public static func make(
        for state: ContainerState, system: HookConfiguration, user: HookConfiguration
    ) throws(HookError) -> HookCommand? {
        guard try isEnabled(state, system, user) else { return nil }
        var collected = Collected()
        let defaults = user.options != nil ? user : system
        if let words = defaults.options {
            try collected.add(words, from: "options in \(defaults.path)", allowed: nil)
        }
        let allowed = Allowed(system: system, user: user)
        if let text = state.annotations[optionsAnnotation] {
            let source = "annotation \(optionsAnnotation)"
            let words: [String]
            do throws(ShellWordsError) {
                words = try ShellWords.split(text)
            } catch {
                throw HookError(source, "\(error)")
            }
            try collected.add(words, from: source, allowed: allowed)
        }
        if let text = state.annotations[publishAnnotation] {
            try collected.publish(text, from: "annotation \(publishAnnotation)", allowed: allowed)
        } else {
            let file = user.publish != nil ? user : system
            if let text = file.publish { try collected.publish(text, from: "publish in \(file.path)", allowed: nil) }
        }
        return collected.command()
    }

    private static func isEnabled(
        _ state: ContainerState, _ system: HookConfiguration, _ user: HookConfiguration
    ) throws(HookError) -> Bool {
        guard let text = state.annotations[enableAnnotation] else { return user.enable ?? system.enable ?? true }
        return try HookConfiguration.truth(text, "annotation \(enableAnnotation)")
    }
}

/// The options that annotations may use, and the file that says so.
private struct Allowed {
    let names: Set<OptionName>
    let source: String

    init(system: HookConfiguration, user: HookConfiguration) {
        switch (system.allowedOptions, user.allowedOptions) {
        case (nil, nil):
            names = AllowedOptions.standard
            source = "allow-options in /etc/tapas/hook.conf can allow it"
        case (let both?, let own?):
            names = both.intersection(own)
            source = "allow-options in \(system.path) and \(user.path)"
        case (let names?, nil):
            self.names = names
            source = "allow-options in \(system.path)"
        case (nil, let names?):
            self.names = names
            source = "allow-options in \(user.path)"
        }
    }
}

/// The options collected so far.
private struct Collected {
    private var words: [String] = []
    private var used: Set<OptionName> = []
    private var sources: [String] = []

    /// Adds options.
    mutating func add(_ new: [String], from source: String, allowed: Allowed?) throws(HookError) {
        guard !new.isEmpty else { return }
        let (options, operands): ([GivenOption], [String])
        do throws(UsageError) {
            (options, operands) = try GivenOption.scan(new)
        } catch {
            throw HookError(source, "\(error)")
        }
        if let operand = operands.first {
            throw HookError(source, "holds \(quoted(operand)), and takes options only")
        }
        for given in options {
            let name = given.option.name
            if let reason = AllowedOptions.impossible[name] {
                throw HookError(source, "\(given.option.longName) cannot be used in a hook: \(reason)")
            }
            if let allowed, !allowed.names.contains(name) {
                throw HookError(source, "\(given.option.longName) is not allowed (\(allowed.source))")
            }
            used.insert(name)
        }
        var showsOthers = false
        do throws(UsageError) {
            // The operand makes the parser accept options for attaching; with --netns there is one already.
            let hasTarget = options.contains { $0.option.name == .netns }
            let outcome = try parse(arguments: ["tapas"] + new + (hasTarget ? [] : ["1"]))
            if case .run(let invocation) = outcome { showsOthers = invocation.showsOtherInterfaces }
        } catch {
            throw HookError(source, "\(error)")
        }
        if let allowed, showsOthers, !allowed.names.contains(.interface) {
            throw HookError(
                source, "--address takes an interface's addresses, which needs --interface allowed (\(allowed.source))")
        }
        words += new
        sources.append(source)
    }

    /// Adds ports: comma-separated specifications of `--tcp-ports`, each optionally with `/tcp` or `/udp` at its end.
    mutating func publish(_ text: String, from source: String, allowed: Allowed?) throws(HookError) {
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            var specification = String(part.drop { $0 == " " })
            while specification.hasSuffix(" ") { specification.removeLast() }
            var option = "--tcp-ports"
            for (suffix, name) in [("/tcp", "--tcp-ports"), ("/udp", "--udp-ports")]
            where specification.hasSuffix(suffix) {
                specification.removeLast(suffix.count)
                option = name
            }
            guard !specification.isEmpty else { throw HookError(source, "holds an empty port specification") }
            try add([option, specification], from: source, allowed: allowed)
        }
    }

    /// The command, with everything closed that has not been opened.
    func command() -> HookCommand {
        var arguments: [String] = []
        if !used.contains(.configNet) { arguments.append("--config-net") }
        if used.isDisjoint(with: [.quiet, .debug, .trace]) { arguments.append("--quiet") }
        let closed: [(OptionName, String)] = [
            (.tcpPorts, "--tcp-ports"), (.udpPorts, "--udp-ports"), (.tcpNs, "--tcp-ns"), (.udpNs, "--udp-ns"),
        ]
        for (name, option) in closed where !used.contains(name) { arguments += [option, "none"] }
        if used.isDisjoint(with: [.mapHostLoopback, .noMapGw]) { arguments.append("--no-map-gw") }
        var named: [String] = []
        for source in sources where !named.contains(source) { named.append(source) }
        return HookCommand(arguments: arguments + words, sources: named, namesNamespace: used.contains(.netns))
    }
}

// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: setup(main): getpid

internal import Diagnostics
internal import Glibc
internal import LinuxSystem
internal import NamespaceControl
internal import Options
internal import Sandbox

/// The filters of system calls of the engine's threads.
struct Filters {
    /// The main thread's.
    let dataPath: SystemCallFilter
    /// The control loop's.
    let control: SystemCallFilter
    /// That of the forwarded ports.
    let ports: SystemCallFilter
    /// That of the thread in the namespace.
    let namespace: SystemCallFilter

    /// Compiles them.
    ///
    /// - Parameters:
    ///   - invocation: the command line.
    ///   - command: the wrapped command, which signals are passed on to.
    ///   - helpers: the helper processes, which are ended.
    /// - Throws: If a filter cannot be compiled.
    init(_ invocation: Invocation, command: WrappedCommand?, helpers: HelperProcesses) throws(Failure) {
        var processes = [getpid()] + helpers.signalTargets
        if let command { processes.append(command.process) }
        dataPath = try Self.make(for: .dataPath, invocation, signalling: processes)
        control = try Self.make(for: .control, invocation, signalling: processes)
        ports = try Self.make(for: .ports, invocation)
        namespace = try Self.make(for: .namespace, invocation)
    }

    /// Compiles the filter of a thread or process.
    ///
    /// - Throws: If it cannot be compiled.
    static func make(
        for subject: FilteredSubject, _ invocation: Invocation, signalling processes: [Int32] = []
    ) throws(Failure) -> SystemCallFilter {
        do throws(SystemCallError) {
            return try SystemCallFilter(
                for: subject, signalling: processes, violation: invocation.logsRefusedSystemCalls ? .isLogged : .ends)
        } catch {
            throw Failure("cannot make the filter of system calls for \(subject.name)", error)
        }
    }

    /// Loads a filter for the calling thread.
    ///
    /// Without it, the process ends: nothing is served unprotected.
    static func load(_ filter: SystemCallFilter, for subject: FilteredSubject) {
        do throws(SystemCallError) {
            try filter.load()
        } catch {
            LogDestinations.writeToStandardError(
                "\(Engine.name): cannot restrict the system calls of \(subject.name): \(error)\n")
            _exit(Engine.failureStatus)
        }
    }
}

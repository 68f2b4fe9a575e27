// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: setup(main): close fcntl ioctl

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import Options
internal import Sandbox
internal import SystemPackage

/// The files of the record of flows, open: that of `--flow-log` and that of `--learn`.
struct FlowRecordFiles: ~Copyable {
    /// The flow log.
    var log: OwnedFileDescriptor?
    /// The learned rules.
    var learned: OwnedFileDescriptor?
    /// The descriptor that must stay open, without ownership.
    private(set) var descriptors: [FileDescriptor] = []

    /// Takes the descriptor of `--flow-log fd:N`, which stays open at another number.
    ///
    /// - Throws: One line, if it is not open for writing.
    init(handedOver request: EgressRequest) throws(Failure) {
        guard case .descriptor(let number)? = request.flowLog else { return }
        let flags = fcntl(number, F_GETFL)
        guard flags >= 0 else {
            throw Failure("--flow-log fd:\(number): the descriptor is not open; redirect it, as in \(number)>FILE")
        }
        if flags & O_ACCMODE == O_RDONLY {
            throw Failure("--flow-log fd:\(number): it is open for reading only; give one that can be written to")
        }
        if isatty(number) == 1 {
            throw Failure("--flow-log fd:\(number): a terminal can make the program wait; give a file or a pipe")
        }
        // Standard output and error may be replaced; the program's own descriptor is not.
        let copy = fcntl(number, F_DUPFD_CLOEXEC, 3)
        guard copy >= 0 else { throw Failure("--flow-log fd:\(number): \(currentErrno.explanation)") }
        log = OwnedFileDescriptor(taking: copy)
        descriptors = [FileDescriptor(rawValue: copy)]
    }

    private init() {}

    /// Takes over the files that a supervisor has opened.
    init(_ handover: Handover) {
        log = handover.take(Handover.Name.flowLog)
        learned = handover.take(Handover.Name.learned)
    }

    /// Opens the files that the command line names.
    ///
    /// - Throws: One line on the file that cannot be written.
    mutating func open(_ request: EgressRequest, becoming identity: Identity?) throws(Failure) {
        if case .file(let path)? = request.flowLog {
            log = try Self.open(Self.logFile(path), "--flow-log", identity)
        }
        if let path = request.learnPath {
            let output = OutputFile(path, purpose: "file of learned rules") { $0.starts(with: "# tapas:".utf8) }
            learned = try Self.open(output, "--learn", identity)
        }
    }

    /// A flow log, which is continued if it exists.
    static func logFile(_ path: String) -> OutputFile {
        var output = OutputFile(path, purpose: "flow log") { $0.starts(with: "{\"time\":".utf8) }
        output.appends = true
        return output
    }

    private static func open(
        _ output: OutputFile, _ option: String, _ identity: Identity?
    ) throws(Failure) -> OwnedFileDescriptor {
        do throws(OutputFileError) {
            return try output.open(becoming: identity?.numbers)
        } catch {
            throw Failure("\(option) '\(output.path)': \(error)")
        }
    }

    /// Moves the files out.
    mutating func take() -> FlowRecordFiles {
        var taken = FlowRecordFiles()
        taken.log = log.take()
        taken.learned = learned.take()
        return taken
    }
}

// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: setup(main): fcntl write
// syscalls: running(data-path): write

internal import CLinux
internal import Glibc
public import LinuxSystem
internal import SystemPackage
internal import Wire

/// A capture of all frames, as tcpdump(1) and tshark(1) read it (`--pcap`).
public struct FrameCapture: ~Copyable {
    private let file: OwnedFileDescriptor
    private let header = PcapFileHeader(hasNanoseconds: true)
    private var buffer: [UInt8] = []

    /// The file of a path; a capture that is there is replaced, another file is not.
    public static func output(_ path: String) -> OutputFile {
        OutputFile(path, purpose: "capture") { PcapFileHeader.isMagic($0) }
    }

    /// Starts a capture in an empty file.
    ///
    /// - Throws: The error of write(2).
    public init(file: consuming OwnedFileDescriptor) throws(SystemCallError) {
        // A pipe takes whole frames, and waits for its reader.
        _ = tapas_set_nonblocking(file.rawValue, 0)
        self.file = file
        var start: [UInt8] = .init(repeating: 0, count: PcapFileHeader.length)
        var span = start.mutableSpan
        header.write(into: &span)
        let number = self.file.rawValue
        try retrying("write", "capture") { unsafe Glibc.write(number, start, start.count) }
    }

    /// Appends a frame; a full disk costs frames, never traffic.
    mutating func record(_ frame: UnsafeRawBufferPointer) {
        var time = timespec()
        unsafe clock_gettime(CLOCK_REALTIME, &time)
        buffer.removeAll(keepingCapacity: true)
        buffer.append(contentsOf: repeatElement(0, count: PcapRecordHeader.length))
        unsafe buffer.append(contentsOf: frame)
        let record = PcapRecordHeader(
            seconds: Int64(time.tv_sec), nanoseconds: Int64(time.tv_nsec), frameLength: frame.count, file: header)
        var span = buffer.mutableSpan
        record.write(into: &span)
        let number = file.rawValue
        _ = transferring { unsafe Glibc.write(number, buffer, buffer.count) }
    }
}

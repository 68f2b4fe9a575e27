// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: setup(main): close fcntl fstat lseek newfstatat pwrite64 write
// syscalls: running(data-path): close fcntl fstat lseek newfstatat pwrite64 write

internal import CLinux
internal import Glibc
public import LinuxSystem
internal import SystemPackage
internal import Wire

/// A capture of all frames, as tcpdump(1) and tshark(1) read it (`--pcap`, `tapasctl pcap start`).
public struct FrameCapture: ~Copyable {
    private let file: OwnedFileDescriptor
    private let header = PcapFileHeader(hasNanoseconds: true)
    private var buffer: [UInt8] = []
    /// The offset of the next record in a regular file, so that the next record overwrites an incomplete one.
    private var offset: off_t?
    /// Frames recorded.
    private(set) var frames: UInt64 = 0
    /// Frames that could not be written, usually because the disk is full.
    private(set) var lost: UInt64 = 0

    /// The file at a path; an existing capture is replaced, any other existing file is refused.
    public static func output(_ path: String) -> OutputFile {
        OutputFile(path, purpose: "capture") { PcapFileHeader.isMagic($0) }
    }

    /// Starts a capture in an empty file.
    ///
    /// - Throws: The error of write(2).
    public init(file: consuming OwnedFileDescriptor) throws(SystemCallError) {
        // Writing to a pipe blocks until the reader has made room, so that frames are written whole.
        _ = tapas_set_nonblocking(file.rawValue, 0)
        var status = stat()
        let isRegular = unsafe fstat(file.rawValue, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
        offset = isRegular ? max(lseek(file.rawValue, 0, SEEK_CUR), 0) : nil
        self.file = file
        var start: [UInt8] = .init(repeating: 0, count: PcapFileHeader.length)
        var span = start.mutableSpan
        header.write(into: &span)
        let number = self.file.rawValue
        let place = offset
        try retrying("write", "capture") {
            if let place { return unsafe pwrite(number, start, start.count, place) }
            return unsafe Glibc.write(number, start, start.count)
        }
        if let place { offset = place + off_t(start.count) }
    }

    /// Writes the beginning of a capture, which other processes go on with (``init(continuing:)``).
    ///
    /// - Returns: the file.
    /// - Throws: The error of write(2).
    public static func begin(in file: consuming OwnedFileDescriptor) throws(SystemCallError) -> OwnedFileDescriptor {
        let capture = try FrameCapture(file: file)
        return try capture.file.duplicate()
    }

    /// Goes on with a capture that a process before this one began.
    ///
    /// - Parameter file: the file. In a regular file, the last frame is at the end.
    public init(continuing file: consuming OwnedFileDescriptor) {
        var status = stat()
        let isRegular = unsafe fstat(file.rawValue, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
        offset = isRegular ? status.st_size : nil
        self.file = file
    }

    /// Starts a capture in a file that another program has opened and handed over.
    ///
    /// - Throws: EINVAL if it is not a regular file, because a slow reader would block the data path; otherwise the
    ///   error of pwrite(2), for example EBADF if it was not opened for writing.
    public init(handedOver file: consuming OwnedFileDescriptor) throws(SystemCallError) {
        var status = stat()
        guard unsafe fstat(file.rawValue, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            throw SystemCallError("fstat", "capture", .invalidArgument)
        }
        try self.init(file: file)
    }

    /// Appends a frame; a full disk loses frames of the capture, never traffic.
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
        let place = offset
        let result = transferring {
            if let place { return unsafe pwrite(number, buffer, buffer.count, place) }
            return unsafe Glibc.write(number, buffer, buffer.count)
        }
        guard result == .bytes(buffer.count) else {
            lost &+= 1
            return
        }
        frames &+= 1
        if let place { offset = place + off_t(buffer.count) }
    }
}

// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Diagnostics
import Glibc
import LinuxSystem
import SystemPackage
import Testing

/// A folder of the test's own, removed with what was put there.
final class TemporaryFolder {
    let path: String

    init() throws {
        var template = Array("/tmp/tapas-test-XXXXXX".utf8CString)
        try #require(mkdtemp(&template) != nil)
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit {
        for name in ["log", "socket"] { unlink("\(path)/\(name)") }
        rmdir(path)
    }

    /// Opens a file of the folder as the log.
    func file(_ name: String) throws -> OwnedFileDescriptor {
        try LogFile.output("\(path)/\(name)", program: "tapas").open(becoming: nil)
    }

    /// The content of a file in the folder.
    func content(_ name: String) throws -> String {
        let file = try OwnedFileDescriptor.open("\(path)/\(name)", .readOnly)
        var bytes: [UInt8] = []
        var part = [UInt8](repeating: 0, count: 65536)
        while case let count = read(file.rawValue, &part, part.count), count > 0 { bytes += part.prefix(count) }
        return String(decoding: bytes, as: UTF8.self)
    }
}

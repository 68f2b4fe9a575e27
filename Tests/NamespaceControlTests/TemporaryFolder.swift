// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
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
        for name in ["ns", "other", "pid"] { unlink("\(path)/\(name)") }
        rmdir(path)
    }

    /// Waits until a descriptor is readable.
    func isReadable(_ descriptor: FileDescriptor, milliseconds: CInt = 10_000) -> Bool {
        var entry = pollfd(fd: descriptor.rawValue, events: Int16(POLLIN), revents: 0)
        return poll(&entry, 1, milliseconds) == 1
    }
}

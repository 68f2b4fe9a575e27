// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import LinuxSystem
import SystemPackage
import TestSupport
import Testing

@testable import Sandbox

@Suite("the file system given up by Landlock", .startsPrograms, .enabled(if: Landlock.version > 0, "no Landlock"))
struct LandlockTests {
    @Test("nothing is opened any more; files are removed only where that is allowed")
    func onlyRemovalStays() async {
        await #expect(processExitsWith: .exitCode(25)) {
            var template = Array("/tmp/tapas-landlock-XXXXXX".utf8CString)
            let folder = String(cString: try #require(mkdtemp(&template)))
            defer { rmdir(folder) }
            for name in ["inside", "outside"] { mkdir("\(folder)/\(name)", 0o700) }
            for name in ["inside/socket", "outside/file"] { close(creat("\(folder)/\(name)", 0o600)) }
            _ = tapas_set_no_new_privileges()
            let inside = try OwnedFileDescriptor.open("\(folder)/inside", .readOnly, options: .directory)
            try Landlock.restrictThread(removingIn: [inside.descriptor])
            let isClosed = open("\(folder)/inside/socket", O_RDONLY) < 0 && errno == EACCES
            let isKept = unlinkat(inside.rawValue, "../outside/file", 0) < 0 && errno == EACCES
            let isRemoved = unlinkat(inside.rawValue, "socket", 0) == 0
            exit(isClosed && isKept && isRemoved ? 25 : 1)
        }
    }
}

// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

#if canImport(Glibc)
    import Glibc
#else
    import Musl
#endif

/// Files of `Tests/Fixtures` that hold what something is to print.
public enum Golden {
    /// The text of a file.
    ///
    /// With `TAPAS_RECORD` set the file is made of `found` first; what it holds then is to be read before it is
    /// committed.
    /// - Parameters:
    ///   - name: its path below `Tests/Fixtures`.
    ///   - found: what was printed.
    /// - Returns: the text; nil if there is no such file.
    public static func text(_ name: String, found: String? = nil) -> String? {
        let parts = #filePath.split(separator: "/").dropLast(2)
        let path = "/" + parts.joined(separator: "/") + "/Fixtures/\(name)"
        if let found, getenv("TAPAS_RECORD") != nil, let file = fopen(path, "w") {
            fputs(found, file)
            fclose(file)
        }
        guard let file = fopen(path, "r") else { return nil }
        defer { fclose(file) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65_536)
        while case let count = fread(&chunk, 1, chunk.count, file), count > 0 { bytes += chunk[..<count] }
        return String(decoding: bytes, as: UTF8.self)
    }
}

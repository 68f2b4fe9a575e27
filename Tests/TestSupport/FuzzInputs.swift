// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import Testing

/// The folders of inputs that Integration/Fuzz keeps for each fuzzer.
public enum FuzzInputs: String {
    /// Inputs that reach much; each fuzzer has some.
    case corpus = "Corpus"
    /// Inputs that made a fuzzer fail once; a fuzzer may have none.
    case failCases = "FailCases"

    /// The contents of the files in a fuzzer's folder, by name.
    public func inputs(of fuzzer: String) throws -> [(name: String, bytes: [UInt8])] {
        let top = #filePath.dropLast("Tests/TestSupport/FuzzInputs.swift".utf8.count)
        let path = "\(top)Integration/Fuzz/\(rawValue)/\(fuzzer)"
        guard let directory = opendir(path) else {
            try #require(self == .failCases && errno == ENOENT, "\(path)")
            return []
        }
        defer { closedir(directory) }
        var inputs: [(name: String, bytes: [UInt8])] = []
        while let entry = readdir(directory) {
            let file = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            guard !file.hasPrefix("."), let handle = fopen("\(path)/\(file)", "r") else { continue }
            defer { fclose(handle) }
            var bytes = [UInt8](repeating: 0, count: 1 << 16)
            bytes.removeLast(bytes.count - fread(&bytes, 1, bytes.count, handle))
            inputs.append((file, bytes))
        }
        return inputs
    }
}

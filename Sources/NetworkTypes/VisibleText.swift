// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

extension StringProtocol {
    /// The text with all characters escaped that could control a terminal, break a line, or look like something else.
    ///
    /// That is control and format characters, separators of lines and paragraphs, and characters without an assigned
    /// meaning. Paths, names of commands, and text from the kernel or a peer may contain any of these. All messages
    /// pass through this function before they are written: a line end becomes `
    /// `, a tab `\t`, an escape `\u{1b}`.
    public var escapingControlCharacters: String {
        guard utf8.contains(where: { $0 < 0x20 || $0 >= 0x7F }) else { return String(self) }
        var result = ""
        for scalar in unicodeScalars {
            switch scalar {
            case "\n": result += "\\n"
            case "\r": result += "\\r"
            case "\t": result += "\\t"
            case _ where scalar.acts: result += "\\u{\(String(scalar.value, radix: 16))}"
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }
}

extension Unicode.Scalar {
    /// Whether a terminal might interpret the character instead of showing it.
    fileprivate var acts: Bool {
        switch properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate, .unassigned, .privateUse: true
        default: false
        }
    }
}

// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// The texts of `--help`, of the hint after an error, and of `--print-capabilities`.
public enum HelpText {
    /// How to call the program: the head of the help, and the text after an error about unreadable options.
    ///
    /// - Parameter program: The name of the program, as called.
    /// - Returns: Four lines.
    public static func usage(program: String) -> String {
        """
        Usage: \(program) [OPTION]... [COMMAND [ARG]...]
               \(program) [OPTION]... PID
               \(program) [OPTION]... --netns PATH|NAME
               \(program) [OPTION]... --socket PATH | --fd FD [--vhost-user]

        """
    }

    /// The hint after ``usage(program:)`` if the whole help would be too long.
    ///
    /// - Parameter program: The name of the program, as called.
    /// - Returns: One line.
    public static func hint(program: String) -> String {
        "Try '\(program) --help' for the options.\n"
    }

    /// The whole help, at most 100 columns wide.
    ///
    /// - Parameter program: The name of the program, as called.
    /// - Returns: Some eighty lines.
    public static func help(program: String) -> String {
        var text = usage(program: program)
        text += """

            Run COMMAND (default: a shell) in a network namespace that has the host's network, or give
            the network to the namespace of process PID or of a file, and keep up with the host's changes.
            Called passt, or with --socket, --fd or --vhost-user, give it to a virtual machine.

            """
        for group in OptionDescription.Group.allCases {
            text += "\n\(group.rawValue):\n"
            for option in OptionDescription.table where option.group == group {
                text += line(for: option)
            }
        }
        text += """

            SPEC: none | [[ADDR][%IFNAME]/]PART[,PART]...
            PART: PORTS[:PORTS] | PORTS:ADDR[/PORTS] | all[:ADDR] | auto | ~PORTS   (PORTS: PORT[-PORT])
            See tapas(1), "Port specifications".

            """
        return text
    }

    /// The output of `--print-capabilities`.
    public static let capabilities = "{\n  \"type\": \"net\"\n}\n"

    private static func line(for option: OptionDescription) -> String {
        let column = 34
        var head = option.letter.map { "  -\($0), " } ?? "      "
        head += option.longNames.map { "--\($0)" }.joined(separator: ", ")
        if let argument = option.argument { head += option.isArgumentOptional ? "[=\(argument)]" : " \(argument)" }
        let gap =
            head.count + 2 > column
            ? "\n" + String(repeating: " ", count: column) : String(repeating: " ", count: column - head.count)
        return head + gap + option.help + "\n"
    }
}

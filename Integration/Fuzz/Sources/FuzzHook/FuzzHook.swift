// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import OCIHook
import Options

/// Takes the input as a container's state and as a hook.conf, with a zero byte between, and decides what to start.
///
/// The result is always a command or one line; and an annotation never opens the host's loopback unless a file allows
/// it.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let bytes = Array(UnsafeBufferPointer(start: start, count: count))
    let split = bytes.firstIndex(of: 0) ?? bytes.endIndex
    let file = Array(bytes[min(split + 1, bytes.endIndex)...])
    check { () throws(HookError) in
        let state = try ContainerState(parsing: Array(bytes[..<split]))
        precondition(!(state.fileName ?? "").contains("/"))
        let system = try HookConfiguration(parsing: file, path: "/etc/tapas/hook.conf")
        _ = try HookCommand.make(for: state, system: system, user: HookConfiguration())
        let closed = try HookCommand.make(for: state, system: HookConfiguration(), user: HookConfiguration())
        guard let closed else { return }
        precondition(!closed.namesNamespace)
        guard let given = try? GivenOption.scan(closed.arguments) else { preconditionFailure("no options") }
        precondition(given.operands.isEmpty)
        precondition(given.options.contains { $0.option.name == .noMapGw })
        precondition(!given.options.contains { $0.option.name == .mapHostLoopback })
        for outbound in given.options where [.tcpNs, .udpNs].contains(outbound.option.name) {
            precondition(outbound.argument == "none")
        }
    }
    // The grammars of the file and of the annotation alone, independent of the state.
    check { () throws(HookError) in _ = try HookConfiguration(parsing: bytes, path: "hook.conf") }
    if let words = try? ShellWords.split(String(decoding: bytes, as: UTF8.self)) {
        precondition(words.count <= count + 1)
    }
    return 0
}

private func check(_ body: () throws(HookError) -> Void) {
    do throws(HookError) {
        try body()
    } catch {
        precondition(!error.description.utf8.contains { $0 < 0x20 })
    }
}

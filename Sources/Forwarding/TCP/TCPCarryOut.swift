// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Carries out the steps that TCP's state machine returns (TCPSteps.swift). Nothing here decides about a connection.
//
// syscalls: running(data-path): recvfrom shutdown

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import NetworkTypes
internal import SystemPackage
internal import Wire

extension DataPath {
    /// Carries out the steps of a flow's event, with reading and retransmitting.
    mutating func carryOut(_ steps: TCPSteps, for index: Int) {
        let actions = steps.actions
        if actions.contains(.flush), gather.flow == index {
            flushGathered()
            guard table[index].state != .free else { return }
        }
        if let reason = steps.drop { counters.drop(reason) }
        if let reason = steps.unreachable { reportUnreachable(table[index], reason) }
        if actions.contains(.countAsConnection) { table.file(index, as: .connection) }
        if actions.contains(.boundQueue) { boundQueue(index) }
        if actions.contains(.shutDown) { shutdown(table[index].socket, CInt(SHUT_WR)) }
        if actions.contains(.send) { sendControl(index, flags: steps.segment, sequence: steps.sequence) }
        if actions.contains(.discard) { discardAcknowledged(index) }
        if actions.contains(.rewind), !rewind(index) { return }
        if actions.contains(.abort) { return abortFlow(index) }
        if actions.contains(.close) { return closeFlow(index) }
        if actions.contains(.wait) { setDeadline(index, milliseconds: Int64(steps.delay)) }
        if actions.contains(.enqueue) { enqueue(index) }
        if actions.contains(.retransmit) {
            counters.retransmissions &+= 1
            sendData(index)
        }
    }

    /// Makes the host socket read again from its first byte, which is the first that the namespace has not
    /// acknowledged.
    ///
    /// - Returns: False if the flow had to be ended, because the socket did not discard the bytes before that one.
    private mutating func rewind(_ index: Int) -> Bool {
        discardAcknowledged(index)
        guard table[index].discardable == 0 else {
            carryOut(table[index].abandoned(), for: index)
            return false
        }
        if !table[index].flags.contains(.peeksFromStart) {
            HostSocket.setIfPossible(table[index].socket, SOL_SOCKET, SO_PEEK_OFF, 0)
        }
        return true
    }

    /// Makes the host socket discard what the namespace has acknowledged.
    @inline(__always)
    mutating func discardAcknowledged(_ index: Int) {
        while table[index].discardable > 0 {
            let number = table[index].socket
            let count = Int(table[index].discardable)
            let result = transferring { recv(number, nil, count, CInt(MSG_TRUNC | MSG_DONTWAIT)) }
            guard case .bytes(let dropped) = result, dropped > 0 else { return }
            table[index].hostDropped(dropped)
        }
    }

    /// The host socket has an error.
    mutating func hostFailed(_ index: Int, _ error: Errno) {
        if table[index].state == .connecting, table[index].flags.contains(.dns), connectNextResolver(index) { return }
        ending = .failed
        defer { ending = nil }
        carryOut(table[index].hostFailed(error), for: index)
    }
}

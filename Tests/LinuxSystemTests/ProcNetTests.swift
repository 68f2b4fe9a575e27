// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import LinuxSystem
import Testing

@Suite("/proc/net") struct ProcNetTests {
    @Test("/proc/net lists sockets, and damaged lines are passed over")
    func procNet() {
        let tcp = """
              sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
               0: 0100007F:1F99 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4242 1 0
               1: 0100007F:1F9A 0100007F:0050 01 00000000:00000000 00:00000000 00000000  1000        0 4243 1 0
               2: rubbish
            """
        #expect(
            ProcNet.parse(tcp, isTCP: true).map { [Int($0.port), Int($0.user), Int($0.inode)] } == [[8089, 1000, 4242]])
        let udp6 = """
              sl  local_address                         remote_address                        st ...
              913: 00000000000000000000000000000000:1388 00000000000000000000000000000000:0000 07 0:0 0:0 0 0 0 77 2 0 0
              914: 00000000000000000000000000000000:1389 00000000000000000000000000000000:0050 01 0:0 0:0 0 0 0 78 2 0 0
            """
        #expect(ProcNet.parse(udp6, isTCP: false).map(\.port) == [5000])
    }
}

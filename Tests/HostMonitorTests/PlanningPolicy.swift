// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import HostMonitor
import LinuxSystem
import NetworkModel
import Planning

// The monitor with the policy that the program gives it: that of `plan()`.

extension MonitorCore.Settings {
    init() { self.init(hasUsableAddress: hasUsableAddress(in:family:through:)) }
}

extension MonitorCore {
    convenience init(kernel: any HostKernel, clock: @escaping () -> MonotonicTime = { .now }) {
        self.init(kernel: kernel, settings: Settings(), clock: clock)
    }
}

extension HoldDown {
    init(milliseconds: Int64, interfaces: PerFamily<String?> = .init(v4: nil, v6: nil)) {
        self.init(
            milliseconds: milliseconds, interfaces: interfaces,
            hasUsableAddress: hasUsableAddress(in:family:through:))
    }
}

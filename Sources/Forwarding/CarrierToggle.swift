// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// A DHCP client that watches its link asks again whether its lease is right when the link comes back. So the carrier is
// switched off and on. The kernel reports a lost link to programs not at once but up to a second later
// (net/core/link_watch.c collects such events), and not at all if the link is back by then. So the carrier stays off
// until the kernel has reported it (`IFF_RUNNING` is gone) and a moment longer; it comes back after a maximum time in
// any case.

internal import LinuxSystem
internal import Logging

/// The carrier while it is off.
struct CarrierToggle {
    /// How often the kernel is asked whether it has reported the loss, in milliseconds.
    private static let step: Int64 = 10
    /// How long the link stays off after the report, in milliseconds, so that programs notice it.
    private static let pause: Int64 = 30
    /// The longest time off, in milliseconds.
    private static let limit: Int64 = 1200

    /// Whether the link is to have a carrier at all.
    private var hasCarrier = true
    private var end: MonotonicTime?
    private var isReported = false
    /// When to call ``proceed(_:now:logger:)`` next; nil while the carrier is on.
    private(set) var deadline: MonotonicTime?

    /// Switches the carrier off, if the link has one; a carrier that is off stays off for another round.
    mutating func begin(_ link: borrowing GuestLink, now: MonotonicTime, logger: Logger) {
        guard hasCarrier, link.capabilities.contains(.carrier) else { return }
        do throws(SystemCallError) {
            try link.setCarrier(false)
        } catch {
            logger.info("the carrier cannot be switched: \(error)")
            return
        }
        logger.debug("carrier off: DHCP clients are to ask again")
        isReported = false
        end = now.advanced(milliseconds: Self.limit)
        deadline = now.advanced(milliseconds: Self.step)
    }

    /// Gives the link the carrier of the interface that it mirrors, if there is one.
    mutating func follow(_ carrier: Bool, _ link: borrowing GuestLink, logger: Logger) {
        guard carrier != hasCarrier, link.capabilities.contains(.carrier) else { return }
        hasCarrier = carrier
        end = nil
        deadline = nil
        do throws(SystemCallError) {
            try link.setCarrier(carrier)
            logger.debug("carrier \(carrier ? "on" : "off"), as that of the mirrored interface")
        } catch {
            logger.warning("the carrier cannot be switched \(carrier ? "on" : "off"): \(error)")
        }
    }

    /// Switches the carrier on once programs have noticed that it was off.
    mutating func proceed(_ link: borrowing GuestLink, now: MonotonicTime, logger: Logger) {
        guard let end else { return }
        if now < end, !isReported {
            isReported = link.showsCarrier == false
            deadline = now.advanced(milliseconds: isReported ? Self.pause : Self.step)
            return
        }
        self.end = nil
        deadline = nil
        do throws(SystemCallError) {
            try link.setCarrier(true)
        } catch {
            logger.warning("the carrier cannot be switched on again: \(error)")
        }
    }
}

// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import LinuxSystem
import Testing

@Suite("Wall time (RFC 3339)")
struct WallTimeTests {
    @Test(
        "dates of the Gregorian calendar, leap days and moments before 1970",
        arguments: [
            (0, "1970-01-01T00:00:00.000Z"), (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"), (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"), (1_709_164_800_000, "2024-02-29T00:00:00.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"), (1_795_816_800_123, "2026-11-27T22:00:00.123Z"),
        ] as [(Int64, String)])
    func dates(milliseconds: Int64, text: String) {
        #expect(WallTime(milliseconds: milliseconds).description == text)
    }
}

// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// A moment of the wall clock, for people and other programs.
public struct WallTime: Hashable, Sendable, CustomStringConvertible {
    /// Milliseconds since 1970.
    public var milliseconds: Int64

    /// Makes a moment.
    ///
    /// - Parameter milliseconds: milliseconds since 1970.
    public init(milliseconds: Int64) {
        self.milliseconds = milliseconds
    }

    /// Now.
    public static var now: WallTime { WallTime(milliseconds: MonotonicTime.wallNanoseconds / 1_000_000) }

    /// The moment by RFC 3339, in UTC: "2026-11-27T22:00:00.123Z".
    public var description: String {
        let (days, rest) = milliseconds.floored(by: 86_400_000)
        let date = Self.date(days)
        let seconds = rest / 1000
        return "\(Self.padded(date.year, 4))-\(Self.padded(date.month, 2))-\(Self.padded(date.day, 2))T"
            + "\(Self.padded(seconds / 3600, 2)):\(Self.padded(seconds / 60 % 60, 2)):\(Self.padded(seconds % 60, 2))"
            + ".\(Self.padded(rest % 1000, 3))Z"
    }

    /// The date of the Gregorian calendar, by counting days in years that begin in March.
    private static func date(_ daysSince1970: Int64) -> (year: Int64, month: Int64, day: Int64) {
        // 719,468 days lie between 1 March of the year 0 and 1 January 1970; 146,097 make 400 years.
        let (era, day) = (daysSince1970 + 719_468).floored(by: 146_097)
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365
        let dayOfYear = day - (365 * year + year / 4 - year / 100)
        let month = (5 * dayOfYear + 2) / 153
        let isNextYear = month >= 10
        return (
            era * 400 + year + (isNextYear ? 1 : 0), isNextYear ? month - 9 : month + 3,
            dayOfYear - (153 * month + 2) / 5 + 1
        )
    }

    private static func padded(_ number: Int64, _ width: Int) -> String {
        let digits = String(number)
        return String(repeating: "0", count: max(0, width - digits.count)) + digits
    }
}

extension Int64 {
    /// The quotient rounded down, and the remainder, which is not negative.
    fileprivate func floored(by divisor: Int64) -> (Int64, Int64) {
        let (quotient, remainder) = quotientAndRemainder(dividingBy: divisor)
        return remainder < 0 ? (quotient - 1, remainder + divisor) : (quotient, remainder)
    }
}

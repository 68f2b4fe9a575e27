// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import Lab
public import Testing

/// Every scenario, one after the other: they share two cores and the kernel's time.
///
/// Suites are extensions of this one, one a file. `contrib/test.sh` runs them in namespaces of their own.
@Suite(
    .serialized,
    .enabled(if: isInsideLab, "run them so: contrib/dev/lab swift test --skip-build --filter Scenarios"))
enum Scenarios {}

extension User: CustomTestStringConvertible {
    /// The user in words, in the names of tests.
    public var testDescription: String { rawValue }
}

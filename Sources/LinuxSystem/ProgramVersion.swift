// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// The version of all programs of the project; packages ask the program for it.
public enum ProgramVersion {
    /// The version (Semantic Versioning).
    public static let current = "0.1.0"
}

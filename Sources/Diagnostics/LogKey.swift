// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// The keys of log metadata: one spelling for each, so that logs can be searched.
public enum LogKey {
    /// An address family: "IPv4".
    public static let family = "family"
    /// An interface by its name.
    public static let interface = "interface"
    /// An address or prefix.
    public static let address = "address"
    /// A transport protocol and port: "TCP 80".
    public static let port = "port"
    /// A flow by its addresses and ports.
    public static let flow = "flow"
    /// An rtnetlink request in ip(8)'s words.
    public static let request = "request"
    /// Which of the program's parts speaks.
    public static let part = "part"
    /// How often a repeated message occurred since it was last printed.
    public static let count = "count"
    /// The number of a host snapshot.
    public static let epoch = "epoch"
    /// A duration in milliseconds.
    public static let milliseconds = "ms"
}

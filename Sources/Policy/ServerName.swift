// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// The server's name that a client's first bytes give: in the ClientHello of TLS, or in the Host header of HTTP/1.
///
/// It is read from what a peek at the socket shows: the stream from its beginning, as far as it has come. The same
/// function is called again with more bytes until it gives something other than `needMore`; more bytes never change
/// that.
public enum ServerName: Hashable, Sendable {
    /// The bytes so far begin something that may give a name.
    case needMore
    /// The name. An encrypted ClientHello gives the name of the server that decrypts it (the "outer" one).
    case name(DomainName, isOuter: Bool)
    /// TLS or HTTP/1 that gives no name.
    case absent
    /// Neither TLS nor HTTP/1.
    case otherProtocol
    /// What should give a name is malformed, longer than `longest`, contradicts itself, or gives an address.
    case unusable

    /// The most bytes that are looked at.
    public static let longest = 16384 + 256

    /// Reads the first bytes of a stream from the client.
    ///
    /// - Parameter bytes: the stream from its beginning.
    /// - Returns: What they give.
    public static func read(_ bytes: Span<UInt8>) -> ServerName {
        guard bytes.count > 0 else { return .needMore }
        let seen = bytes.extracting(first: longest)
        let result =
            switch seen[0] {
            case ClientHello.handshakeRecord: ClientHello.read(seen)
            case let first where HostHeader.isToken(first): HostHeader.read(seen)
            default: ServerName.otherProtocol
            }
        return result == .needMore && bytes.count >= longest ? .unusable : result
    }
}

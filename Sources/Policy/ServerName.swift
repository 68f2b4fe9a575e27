// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// The server's name in a client's first bytes: in the ClientHello of TLS, or in the Host header of HTTP/1.
///
/// It is read from the beginning of the stream, as far as it has arrived, by peeking at the socket. The same function
/// is called again with more bytes until it returns something other than `needMore`; more bytes never change that
/// result.
public enum ServerName: Hashable, Sendable {
    /// The bytes so far are the beginning of a message that may contain a name.
    case needMore
    /// The name. An encrypted ClientHello gives the name of the server that decrypts it (the "outer" one).
    case name(DomainName, isOuter: Bool)
    /// TLS or HTTP/1 without a name.
    case absent
    /// Neither TLS nor HTTP/1.
    case otherProtocol
    /// The message is malformed, longer than `longest`, contradictory, or has an address instead of a name.
    case unusable

    /// The greatest number of bytes that are read.
    public static let longest = 16384 + 256

    /// Reads the first bytes of a stream from the client.
    ///
    /// - Parameter bytes: the stream from its beginning.
    /// - Returns: The result.
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

// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import JSON

/// The version of the control protocol (docs/control.md).
public let controlProtocolVersion: Int64 = 1

/// The identifier that a client gives a request, to recognise its answers: a number or a string.
public enum ControlRequestID: Hashable, Sendable {
    /// A number.
    case number(Int64)
    /// A string of at most 64 bytes.
    case text(String)

    init?(_ value: JSONValue?) {
        switch value {
        case .integer(let number): self = .number(number)
        case .string(let text) where text.utf8.count <= 64: self = .text(text)
        default: return nil
        }
    }

    var json: JSONValue {
        switch self {
        case .number(let number): .integer(number)
        case .text(let text): .string(text)
        }
    }
}

/// Why a request was not carried out.
public struct ControlError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The kinds of errors; the words are part of the protocol.
    public enum Code: String, Hashable, Sendable {
        /// The line is no JSON object, or too long.
        case malformed = "malformed"
        /// The client's protocol version is not supported.
        case version = "version"
        /// There is no such method.
        case unknownMethod = "unknown-method"
        /// A parameter is missing, of the wrong type, or has an invalid value.
        case invalidParameters = "invalid-parameters"
        /// The request is valid but cannot be carried out now; nothing was changed.
        case refused = "refused"
        /// There are too many clients.
        case busy = "busy"
        /// The client does not read its answers.
        case slow = "slow"
        /// A condition did not become true in time.
        case timeout = "timeout"
    }

    /// The kind.
    public var code: Code
    /// One line for people, with the object and the remedy.
    public var message: String
    /// A port of the host that another process has: a client may find out which, the instance has no /proc.
    public var portInUse: PortInUse?

    /// A port as `tcp` or `udp` and a number.
    public struct PortInUse: Hashable, Sendable {
        /// `tcp` or `udp`.
        public var transport: String
        /// The port.
        public var number: UInt16

        /// Makes one.
        public init(_ transport: String, _ number: UInt16) {
            self.transport = transport
            self.number = number
        }
    }

    /// Makes an error.
    public init(_ code: Code, _ message: String, portInUse: PortInUse? = nil) {
        self.code = code
        self.message = message
        self.portInUse = portInUse
    }

    /// The line for people.
    public var description: String { message }
}

/// A request: one line of JSON.
public struct ControlRequest: Hashable, Sendable {
    /// The longest line that is read, in bytes.
    public static let greatestLength = 65_536

    /// The client's name for the request.
    public var id: ControlRequestID
    /// The method: `status`, `forward.add`.
    public var method: String
    /// The parameters by name.
    public var parameters: JSONObject

    /// Makes a request.
    public init(id: ControlRequestID, method: String, parameters: JSONObject = JSONObject()) {
        self.id = id
        self.method = method
        self.parameters = parameters
    }

    /// Reads a line without its newline.
    ///
    /// - Throws: The error, and the id if that could be read, so that the answer contains it.
    public init(parsing line: [UInt8]) throws(Refusal) {
        let value: JSONValue
        do throws(JSONError) {
            value = try JSONValue(parsing: line)
        } catch {
            throw Refusal(id: nil, error: ControlError(.malformed, "no JSON: \(error)"))
        }
        guard case .object(let object) = value else {
            throw Refusal(id: nil, error: ControlError(.malformed, "a request is a JSON object"))
        }
        let id = ControlRequestID(object["id"])
        func refusal(_ code: ControlError.Code, _ message: String) -> Refusal {
            Refusal(id: id, error: ControlError(code, message))
        }
        guard let id else { throw refusal(.malformed, "'id' must be a number or a string of at most 64 bytes") }
        guard object["v"] == .integer(controlProtocolVersion) else {
            throw refusal(.version, "this program speaks version \(controlProtocolVersion) of the protocol ('v')")
        }
        guard let method = object["method"]?.string else { throw refusal(.malformed, "'method' must be a string") }
        switch object["params"] {
        case nil, .null?: parameters = JSONObject()
        case .object(let members)?: parameters = members
        default: throw refusal(.malformed, "'params' must be an object")
        }
        for name in object.names where !["v", "id", "method", "params"].contains(name) {
            throw refusal(.malformed, "a request has no member '\(name.prefix(64))'")
        }
        self.id = id
        self.method = method
    }

    /// Why a line is not a request.
    public struct Refusal: Error, Hashable, Sendable {
        /// The request's id, if it could be read.
        public var id: ControlRequestID?
        /// The error.
        public var error: ControlError
    }

    /// The line with its newline.
    public var line: [UInt8] {
        var object = JSONObject()
        object["v"] = .integer(controlProtocolVersion)
        object["id"] = id.json
        object["method"] = .string(method)
        if !parameters.members.isEmpty { object["params"] = .object(parameters) }
        return Array(JSONValue.object(object).compactText.utf8) + [0x0A]
    }
}

/// An answer: one line of JSON.
///
/// A request is answered with any number of events, then one result or error.
public struct ControlAnswer: Hashable, Sendable {
    /// The content of an answer.
    public enum Body: Hashable, Sendable {
        /// The request was carried out; this is the last answer.
        case result(JSONValue)
        /// The request was not carried out; this is the last answer.
        case error(ControlError)
        /// A part of the answer; more follows.
        case event(JSONValue)
    }

    /// The request's id; nil if the line could not be read as a request.
    public var id: ControlRequestID?
    /// The content.
    public var body: Body

    /// Makes an answer.
    public init(id: ControlRequestID?, _ body: Body) {
        self.id = id
        self.body = body
    }

    /// Whether this is the last answer to the request.
    public var isLast: Bool {
        if case .event = body { false } else { true }
    }

    /// The line with its newline.
    public var line: [UInt8] {
        var object = JSONObject()
        object["v"] = .integer(controlProtocolVersion)
        object["id"] = id?.json ?? .null
        switch body {
        case .result(let value): object["result"] = value
        case .event(let value): object["event"] = value
        case .error(let error):
            var members = JSONObject()
            members["code"] = .string(error.code.rawValue)
            members["message"] = .string(error.message)
            if let port = error.portInUse {
                members["protocol"] = .string(port.transport)
                members["port"] = .integer(Int64(port.number))
            }
            object["error"] = .object(members)
        }
        return Array(JSONValue.object(object).compactText.utf8) + [0x0A]
    }

    /// Reads a line without its newline, as a client.
    ///
    /// - Throws: `malformed` if it is not an answer; `version` if it is an answer of another version.
    public init(parsing line: [UInt8]) throws(ControlError) {
        let value: JSONValue
        do throws(JSONError) {
            value = try JSONValue(parsing: line)
        } catch {
            throw ControlError(.malformed, "the answer is no JSON: \(error)")
        }
        guard value["v"] == .integer(controlProtocolVersion) else {
            throw ControlError(.version, "the instance speaks another version of the control protocol")
        }
        id = ControlRequestID(value["id"])
        if let result = value["result"] {
            body = .result(result)
        } else if let event = value["event"] {
            body = .event(event)
        } else if let code = value["error"]?["code"]?.string, let message = value["error"]?["message"]?.string {
            var error = ControlError(ControlError.Code(rawValue: code) ?? .refused, message)
            if let transport = value["error"]?["protocol"]?.string, transport == "tcp" || transport == "udp",
                let number = value["error"]?["port"]?.integer.flatMap({ UInt16(exactly: $0) })
            {
                error.portInUse = .init(transport, number)
            }
            body = .error(error)
        } else {
            throw ControlError(.malformed, "the answer has neither result, event nor error")
        }
    }
}

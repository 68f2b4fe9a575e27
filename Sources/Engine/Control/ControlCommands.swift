// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// The methods of the control protocol by their names. Each part of the engine adds its handlers in a file of its own
// (`StatusCommands.swift`, ...), in a function of an extension of this actor, which `ControlSocketSetup` calls once before
// the server starts. A handler runs on the control loop and may wait there; it reaches other threads by calling their
// actors.

internal import Control
internal import JSON
internal import LinuxSystem

/// The methods of an instance.
actor ControlCommands: ControlService {
    /// Carries out a request.
    ///
    /// A handler that answers with parts sends them with ``ControlExchange/send(_:)`` and returns the result at the end.
    typealias Handler =
        @Sendable (_ parameters: ControlParameters, _ exchange: ControlExchange) async throws(ControlError) -> JSONValue

    private struct Command {
        var parameters: Set<String>
        var changes: Bool
        var handler: Handler
    }

    private let loop: EventLoop
    private var commands: [String: Command] = [:]

    nonisolated var unownedExecutor: UnownedSerialExecutor { unsafe loop.asUnownedSerialExecutor() }

    /// Makes a service without methods.
    init(loop: EventLoop) {
        self.loop = loop
    }

    /// Adds a method.
    ///
    /// - Parameters:
    ///   - method: its name.
    ///   - parameters: the names of its parameters; any other is refused.
    ///   - changes: whether it makes changes, so that confined clients may not call it.
    ///   - handler: carries it out.
    func add(_ method: String, parameters: Set<String> = [], changes: Bool = false, _ handler: @escaping Handler) {
        precondition(commands[method] == nil, "the method '\(method)' is there already")
        commands[method] = Command(parameters: parameters, changes: changes, handler: handler)
    }

    /// The names of all methods.
    var methods: [String] { commands.keys.sorted() }

    /// Refuses a client that may only read.
    static func requireChange(_ exchange: ControlExchange) throws(ControlError) {
        guard exchange.mayChange else {
            throw ControlError(.refused, "a client in another network namespace may look but not change anything")
        }
    }

    func respond(to request: ControlRequest, on exchange: ControlExchange) async {
        do throws(ControlError) {
            guard let command = commands[request.method] else {
                throw ControlError(.unknownMethod, "there is no method '\(request.method.prefix(64))'")
            }
            if command.changes { try Self.requireChange(exchange) }
            for name in request.parameters.names where !command.parameters.contains(name) {
                throw ControlError(
                    .invalidParameters, "'\(request.method)' has no parameter '\(name.prefix(64))'")
            }
            let handler = command.handler
            let result = try await handler(ControlParameters(request.parameters), exchange)
            await exchange.finish(.success(result))
        } catch {
            await exchange.finish(.failure(error))
        }
    }
}

/// The parameters of a request, with checked access.
struct ControlParameters: Sendable {
    /// The members.
    let object: JSONObject

    /// Takes the members of a request.
    init(_ object: JSONObject) {
        self.object = object
    }

    /// A value; nil if it is absent or null.
    func value(_ name: String) -> JSONValue? {
        switch object[name] {
        case nil, .null?: nil
        case let value: value
        }
    }

    /// A string; nil if it is absent.
    func string(_ name: String) throws(ControlError) -> String? {
        guard let value = value(name) else { return nil }
        guard let text = value.string else { throw Self.wrong(name, "a string") }
        return text
    }

    /// An integer in a range; nil if it is absent.
    func integer(_ name: String, in range: ClosedRange<Int64>) throws(ControlError) -> Int64? {
        guard let value = value(name) else { return nil }
        guard let number = value.integer, range.contains(number) else {
            throw Self.wrong(name, "a number from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    /// A number of seconds, 0 or more; nil if it is absent.
    func seconds(_ name: String) throws(ControlError) -> Double? {
        guard let value = value(name) else { return nil }
        guard let number = value.double, number.isFinite, (0...1e9).contains(number) else {
            throw Self.wrong(name, "a number of seconds")
        }
        return number
    }

    /// A truth value; false if it is absent.
    func bool(_ name: String) throws(ControlError) -> Bool {
        guard let value = value(name) else { return false }
        guard let truth = value.bool else { throw Self.wrong(name, "true or false") }
        return truth
    }

    /// The error of an invalid parameter.
    static func wrong(_ name: String, _ wanted: String) -> ControlError {
        ControlError(.invalidParameters, "'\(name)' must be \(wanted)")
    }
}

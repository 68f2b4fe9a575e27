// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import JSON
import Testing

@testable import Control

@Suite("control messages (docs/control.md)") struct MessageTests {
    private func text(_ line: [UInt8]) -> String { String(decoding: line, as: UTF8.self) }

    @Test("a request is one line, the same after both ways")
    func aRequestIsOneLine() throws {
        var request = ControlRequest(id: .number(7), method: "forward.add")
        request.parameters["specs"] = ["-t 8080"]
        #expect(text(request.line) == #"{"v":1,"id":7,"method":"forward.add","params":{"specs":["-t 8080"]}}"# + "\n")
        #expect(try ControlRequest(parsing: request.line.dropLast()) == request)
    }

    @Test("answers are one line each, the same after both ways")
    func answersAreOneLineEach() throws {
        let answers: [(ControlAnswer, String)] = [
            (ControlAnswer(id: .number(1), .result(["a": 1])), #"{"v":1,"id":1,"result":{"a":1}}"#),
            (ControlAnswer(id: .text("x"), .event([])), #"{"v":1,"id":"x","event":[]}"#),
            (
                ControlAnswer(id: nil, .error(ControlError(.malformed, "no"))),
                #"{"v":1,"id":null,"error":{"code":"malformed","message":"no"}}"#
            ),
            (
                ControlAnswer(id: .number(2), .error(ControlError(.refused, "no", portInUse: .init("tcp", 80)))),
                #"{"v":1,"id":2,"error":{"code":"refused","message":"no","protocol":"tcp","port":80}}"#
            ),
        ]
        for (answer, expected) in answers {
            #expect(text(answer.line) == expected + "\n")
            #expect(try ControlAnswer(parsing: Array(expected.utf8)) == answer)
        }
    }

    @Test(
        "what is no request is refused with the id where it can be read",
        arguments: [
            ("", nil, ControlError.Code.malformed), ("[]", nil, .malformed), ("{}", nil, .malformed),
            (#"{"id":1}"#, .number(1), .version), (#"{"v":2,"id":1,"method":"status"}"#, .number(1), .version),
            (#"{"v":1,"id":1}"#, .number(1), .malformed), (#"{"v":1,"id":1,"method":5}"#, .number(1), .malformed),
            (#"{"v":1,"id":1,"method":"status","params":[]}"#, .number(1), .malformed),
            (#"{"v":1,"id":1,"method":"status","extra":0}"#, .number(1), .malformed),
            (#"{"v":1,"id":true,"method":"status"}"#, nil, .malformed),
            (#"{"v":1,"id":1.5,"method":"status"}"#, nil, .malformed),
        ] as [(String, ControlRequestID?, ControlError.Code)])
    func whatIsNoRequestIsRefused(line: String, id: ControlRequestID?, code: ControlError.Code) {
        #expect { try ControlRequest(parsing: Array(line.utf8)) } throws: {
            guard let refusal = $0 as? ControlRequest.Refusal else { return false }
            return refusal.id == id && refusal.error.code == code
        }
    }
}

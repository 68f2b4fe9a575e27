// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// An object of an event loop's thread, as other threads hold it.
///
/// Other threads can have the loop's thread use the object, but never touch it themselves.
public struct LoopBound<Object: AnyObject>: @unchecked Sendable {
    // @unchecked: only closures that run on the loop's thread use the object.
    private let object: Object
    /// The loop.
    public let loop: EventLoop

    /// Binds an object to the loop on whose thread it is used from then on.
    public init(_ object: Object, on loop: EventLoop) {
        self.object = object
        self.loop = loop
    }

    /// Uses the object at once; must be called on the loop's thread.
    @discardableResult
    public func onLoop<Result>(_ body: (Object) -> Result) -> Result {
        loop.checkIsolated()
        return body(object)
    }

    /// Has the loop's thread use the object, in the order of the calls; returns at once.
    public func perform(_ body: @escaping @Sendable (Object) -> Void) {
        loop.perform { body(object) }
    }
}

extension LoopBound where Object: EventSink {
    /// Serves the loop on the calling thread, to which the object belongs from then on.
    func serve() {
        // This fails only if epoll_wait(2) does, which is a bug.
        do throws(SystemCallError) { try loop.run(sink: object) } catch { assertionFailure("\(error)") }
    }
}

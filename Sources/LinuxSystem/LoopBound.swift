// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// An object that belongs to the thread of an event loop, as other threads hold it: they can have things done with it,
/// and never touch it.
public struct LoopBound<Object: AnyObject>: @unchecked Sendable {
    // @unchecked: the object is used by closures that run on the loop's thread only.
    private let object: Object
    /// The loop.
    public let loop: EventLoop

    /// Binds an object to the loop on whose thread it is used from now on.
    public init(_ object: Object, on loop: EventLoop) {
        self.object = object
        self.loop = loop
    }

    /// Does something with the object at once; to be called on the loop's thread.
    @discardableResult
    public func onLoop<Result>(_ body: (Object) -> Result) -> Result {
        loop.checkIsolated()
        return body(object)
    }

    /// Has the loop's thread do something with the object, in the order of calls; returns at once.
    public func perform(_ body: @escaping @Sendable (Object) -> Void) {
        loop.perform { body(object) }
    }
}

extension LoopBound where Object: EventSink {
    /// Serves the loop on the calling thread, which is the object's from then on.
    func serve() {
        // Fails only if epoll_wait(2) does, which is a bug.
        do throws(SystemCallError) { try loop.run(sink: object) } catch { assertionFailure("\(error)") }
    }
}

// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// The addition or removal of one route of the host.
public enum RouteEvent: Hashable, Sendable {
    /// The route was added.
    case added(Route)
    /// The route was removed.
    case removed(Route)

    /// The route.
    public var route: Route {
        switch self {
        case .added(let route), .removed(let route): route
        }
    }

    /// The opposite change.
    public var inverse: RouteEvent {
        switch self {
        case .added(let route): .removed(route)
        case .removed(let route): .added(route)
        }
    }
}

// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// One route of the host that has come or gone.
public enum RouteEvent: Hashable, Sendable {
    /// The route is there now.
    case added(Route)
    /// The route is not there any more.
    case removed(Route)

    /// The route.
    public var route: Route {
        switch self {
        case .added(let route), .removed(let route): route
        }
    }

    /// The change that takes this one back.
    public var inverse: RouteEvent {
        switch self {
        case .added(let route): .removed(route)
        case .removed(let route): .added(route)
        }
    }
}

// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Nothing is called here: leave_out.c acts before the tests' main does.

// Package doctor finds out why no events arrive. [Examine] asks the portal and the OAuth server
// about everything that an event needs on its way: a finished installation, tokens, permissions, a
// plan, a handler URL, bindings. It returns a list of checks, each with a cause and a cure in plain
// English.
//
//	report, err := doctor.Examine(ctx, api.Portal(memberID), events.Bindings(handlerURL),
//		doctor.WithPortals(portals, memberID), doctor.WithProbe(nil))
//	for _, c := range report.Findings() {
//		fmt.Println(c.Name, c.Status, c.Cause, c.Cure)
//	}
//
// The first finding is the most likely cause. Each has a [Code], which programs can compare: the
// constants from [NotStored] to [ClockSkew] are all that there are.
//
// An examination changes nothing on the portal, with one exception: [WithRoundTrip] binds ONAPPTEST
// if it is not bound, and unbinds it in the end. The caller renews an expired access token as it
// always does, so let it use the store of the application: a refresh token works only once. An
// examination makes about a dozen requests to the portal, one after the other. The program
// examples/doctor runs it from the command line.
//
// Nothing in a report is a token. Texts of a portal are cut, and hold no control characters.
package doctor

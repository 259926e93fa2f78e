package eventtest

// PlannedFaults counts the faults of a method that have not happened yet.
type PlannedFaults struct {
	Once   int  // of [Portal.Once] and [Portal.Times]
	Always bool // of [Portal.Always]
}

// PlannedFaults returns the methods that have faults ahead, by their names in lower case.
func (p *Portal) PlannedFaults() map[string]PlannedFaults {
	p.mu.Lock()
	defer p.mu.Unlock()
	planned := map[string]PlannedFaults{}
	for method, f := range p.faults {
		if len(f.once) > 0 || f.always != nil {
			planned[method] = PlannedFaults{Once: len(f.once), Always: f.always != nil}
		}
	}
	return planned
}

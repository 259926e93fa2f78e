package webhooktest

import "strconv"

// ForgetIDs lets the next ID follow the highest that is there, as a table without a sequence does.
func (m *MemoryStore) ForgetIDs() {
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	m.data.lastID = 0
	for _, rows := range []map[string]*memoryRow{m.data.byID, m.data.archived} {
		for id := range rows {
			n, _ := strconv.ParseInt(id, 10, 64)
			m.data.lastID = max(m.data.lastID, n)
		}
	}
}

package pgstore

import (
	"strings"

	"github.com/jackc/pgx/v5"
)

// queries are the statements on the tables of one schema.
type queries struct {
	insert                string
	done, parked, counted marking // for marked records
	left                  string
	count                 string
	newest, look, load    string
	open                  string
	sweep                 string
	depth, list, position string
	replay, discard       string
	prune, purge          string
	acquire, release      string
	held                  string
	settle, pending       string
}

// marking is a statement that marks records, in two forms: wait waits for locks of other
// transactions, and skip leaves out records that these lock.
type marking struct{ wait, skip string }

const (
	// Each transaction that changes something sets how it is committed. The settings of the session or
	// the role may differ between connections.
	begin = `BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE`
	// The argument is the time limit of a statement in milliseconds.
	settings = `SELECT set_config('statement_timeout', $1, true), set_config('idle_in_transaction_session_timeout', $1, true),
 set_config('lock_timeout', '0', true), set_config('synchronous_commit', `
	durable = settings + `CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') ` +
		`END, true)`
	relaxed = settings + `'off', true)`
	// Transactions of this package lock records only for as long as a commit takes. People, and
	// processes that hang, may lock them for longer.
	shortLockTimeout = `SELECT set_config('lock_timeout', '250', true)`
	// A timeout during COMMIT would end the wait for a synchronous standby, and COMMIT would report
	// success.
	noStatementTimeout = `SELECT set_config('statement_timeout', '0', true)`
	// From settling to COMMIT, other processes wait for this one.
	settleLimits = `SELECT set_config('statement_timeout', '0', true), set_config('idle_in_transaction_session_timeout', '5000', true)`
	commit       = `COMMIT`
	rollback     = `ROLLBACK`
)

// recordColumns are the columns of a pending record, in the order in which scanRecord reads them.
const recordColumns = `p.part, p.id, p.tag, p.name, p.member_id, p.received, p.attempts, p.interrupted, p.due, p.err, p.data`

// newestID is the highest ID that may have been given so far.
const newestID = `CASE WHEN is_called THEN last_value * 1024 + 1023 ELSE 0 END`

const (
	keysAndPart = `unnest($1::smallint[], $2::bigint[], $3::integer[]) WITH ORDINALITY AS u(part, id, tag, place)`
	keysAndMore = `unnest($1::smallint[], $2::bigint[], $3::integer[], $4::integer[], $5::integer[], $6::timestamptz[], $7::text[])
 WITH ORDINALITY AS u(part, id, tag, attempts, interrupted, due, err, place)`
	same = `p.part = u.part AND p.id = u.id AND p.tag = u.tag`
	// moment is the time of settling, which grows in the order of the marks.
	moment = `statement_timestamp() + place * interval '1 microsecond'`
	// archived lists the columns that are moved from pending to archive.
	archived = `(id, tag, part, state, settled, name, member_id, received, attempts, interrupted, err, data)`
)

func newQueries(schema string, keep bool) queries {
	in := strings.NewReplacer("{schema}", pgx.Identifier{schema}.Sanitize()).Replace
	// marks makes both forms of a statement that joins p with the marks u.
	marks := func(format, source string) marking {
		skip := `(SELECT u.* FROM ` + source + ` JOIN {schema}.pending p ON ` + same + ` ORDER BY p.part, p.id FOR UPDATE OF p SKIP LOCKED) AS u`
		return marking{in(strings.ReplaceAll(format, "{marks}", source)), in(strings.ReplaceAll(format, "{marks}", skip))}
	}
	const deleteDone = `DELETE FROM {schema}.pending p USING {marks} WHERE ` + same
	const archiveDone = `WITH gone AS (DELETE FROM {schema}.pending p USING {marks} WHERE ` + same + ` RETURNING p.*, u.place)
 INSERT INTO {schema}.archive ` + archived + `
 SELECT id, tag, part, 'done', ` + moment + `, name, member_id, received, attempts, interrupted, '', data FROM gone`
	done := deleteDone
	if keep {
		done = archiveDone
	}
	return queries{
		// The statement that inserts also reads the sequence. So a transaction that has a value of it
		// also holds the lock ROW EXCLUSIVE on the table until it ends. See poller.
		insert: in(`WITH c AS MATERIALIZED (SELECT nextval('{schema}.commits') * 1024 AS base),
 added AS (INSERT INTO {schema}.pending (part, id, tag, name, member_id, received, data)
  SELECT r.part, c.base + r.place - 1, $1, r.name, r.member_id, r.received, r.data
  FROM c CROSS JOIN unnest($2::smallint[], $3::text[], $4::text[], $5::timestamptz[], $6::bytea[])
   WITH ORDINALITY AS r(part, name, member_id, received, data, place))
 SELECT base FROM c`),
		done: marks(done, keysAndPart),
		parked: marks(`WITH gone AS (DELETE FROM {schema}.pending p USING {marks} WHERE `+same+`
  RETURNING p.id, p.tag, p.part, p.name, p.member_id, p.received, u.attempts, u.interrupted, u.err, p.data, u.place)
 INSERT INTO {schema}.archive `+archived+`
 SELECT id, tag, part, 'parked', `+moment+`, name, member_id, received, attempts, interrupted, err, data FROM gone`,
			keysAndMore),
		counted: marks(`UPDATE {schema}.pending p SET attempts = u.attempts, interrupted = u.interrupted, due = u.due, err = u.err
 FROM {marks} WHERE `+same+` RETURNING p.id, p.tag`, keysAndMore),
		left:  in(`SELECT p.id, p.tag FROM ` + keysAndPart + ` JOIN {schema}.pending p ON ` + same),
		count: in(`SELECT count(*) FROM (SELECT FROM {schema}.pending LIMIT $1) p`),

		// A look takes a millisecond, and compiling it would take a hundred.
		newest: in(`SELECT ` + newestID + `, set_config('jit', 'off', true) FROM {schema}.commits`),
		look: in(`SELECT f.place, p.id, p.tag, octet_length(p.data), p.attempts > 0 OR p.interrupted > 0 OR p.due IS NOT NULL OR p.err <> ''
 FROM unnest($1::smallint[], $2::bigint[]) WITH ORDINALITY AS f(part, low, place)
 CROSS JOIN LATERAL (SELECT * FROM {schema}.pending WHERE part = f.part AND id > f.low ORDER BY id LIMIT $3) p
 ORDER BY f.place, p.id`),
		load: in(`SELECT ` + recordColumns + ` FROM ` + keysAndPart + ` JOIN {schema}.pending p ON ` + same),
		open: in(`SELECT virtualtransaction FROM pg_catalog.pg_locks WHERE locktype = 'relation' AND mode = 'RowExclusiveLock'
 AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()) AND relation = '{schema}.pending'::regclass`),
		sweep: in(`SELECT id, tag FROM {schema}.pending WHERE part = $1 AND id > $2 AND id <= $3 ORDER BY id LIMIT $4`),

		depth: in(`SELECT p.n, p.oldest, a.parked, a.done, a.oldest
 FROM (SELECT count(*) AS n, min(received) AS oldest FROM {schema}.pending) p,
  (SELECT count(*) FILTER (WHERE state = 'parked') AS parked, count(*) FILTER (WHERE state = 'done') AS done,
   min(settled) FILTER (WHERE state = 'parked') AS oldest FROM {schema}.archive) a`),
		list: in(`SELECT part, id, tag, name, member_id, received, attempts, interrupted, err, settled, data FROM {schema}.archive
 WHERE state = $1 AND (settled, id, tag) > ($2, $3, $4) ORDER BY settled, id, tag LIMIT $5`),
		position: in(`SELECT settled FROM {schema}.archive WHERE id = $1 AND tag = $2`),
		replay: in(`WITH gone AS (DELETE FROM {schema}.archive a USING unnest($1::bigint[], $2::integer[]) AS u(id, tag)
  WHERE a.id = u.id AND a.tag = u.tag RETURNING a.*),
 c AS MATERIALIZED (SELECT nextval('{schema}.commits') * 1024 AS base),
 added AS (INSERT INTO {schema}.pending (part, id, tag, name, member_id, received, data)
  SELECT r.part, c.base + r.place - 1, $3, r.name, r.member_id, r.received, r.data
  FROM c CROSS JOIN (SELECT *, row_number() OVER (ORDER BY id, tag) AS place FROM gone) r RETURNING part)
 SELECT part FROM added`),
		discard: in(`DELETE FROM {schema}.archive a USING unnest($1::bigint[], $2::integer[]) AS u(id, tag)
 WHERE a.id = u.id AND a.tag = u.tag`),
		prune: in(`DELETE FROM {schema}.archive a USING (SELECT id, tag FROM {schema}.archive
  WHERE state = 'done' AND settled < now() - $1 * interval '1 microsecond' ORDER BY settled LIMIT $2 FOR UPDATE SKIP LOCKED) u
 WHERE a.id = u.id AND a.tag = u.tag`),
		purge: in(`DELETE FROM {schema}.leases l USING (SELECT name FROM {schema}.leases
  WHERE until < now() - interval '1 day' FOR UPDATE SKIP LOCKED) u WHERE l.name = u.name`),

		// A statement for several leases locks them in the order of their names. A new token is greater
		// than all earlier ones of the name, even if its row was purged in between.
		acquire: in(`INSERT INTO {schema}.leases AS l (name, owner, until, token)
 SELECT name, $2, clock_timestamp() + $3 * interval '1 microsecond', (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
 FROM unnest($1::text[]) AS name ORDER BY name COLLATE "C"
 ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, until = excluded.until,
  token = CASE WHEN l.owner = excluded.owner AND l.until > clock_timestamp() THEN l.token ELSE greatest(l.token + 1, excluded.token) END
 WHERE l.owner = excluded.owner OR l.until <= clock_timestamp()
 RETURNING name`),
		release: in(`UPDATE {schema}.leases l SET until = clock_timestamp()
 FROM (SELECT name FROM {schema}.leases WHERE owner = $1 AND name = ANY($2) AND until > clock_timestamp() ORDER BY name FOR UPDATE) u
 WHERE l.name = u.name`),
		held: in(`SELECT name, owner FROM {schema}.leases WHERE starts_with(name, $1) AND until > clock_timestamp()`),

		settle:  in(strings.ReplaceAll(done, "{marks}", keysAndPart)),
		pending: in(`SELECT EXISTS (SELECT FROM {schema}.pending WHERE part = ($1::bigint)::smallint AND id = $2 AND tag = $3)`),
	}
}

package pgstore

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// statement is a statement with its arguments. At most one of rows and affected is set.
type statement struct {
	sql      string
	args     []any
	rows     func(pgx.Rows) error // reads all rows
	affected *int64               // number of rows that were changed
}

// binary asks for results in PostgreSQL's binary format.
var binary = []int16{pgtype.BinaryFormatCode}

// run sends statements in one round trip and reads their results. It knows the types of all
// arguments, so the statements need neither a name nor a description: they leave nothing behind in
// the session, and every version of PgBouncer in transaction mode passes them on. The server plans
// each statement for its arguments, so it never uses a plan from the time when a table was empty.
//
// If a statement fails, run returns its error and those after it do not run.
func run(ctx context.Context, conn *pgx.Conn, statements ...statement) error {
	types := conn.TypeMap()
	var batch pgconn.Batch
	for _, st := range statements {
		values, oids, formats := make([][]byte, len(st.args)), make([]uint32, len(st.args)), make([]int16, len(st.args))
		for i, arg := range st.args {
			oid, size, err := typeOf(arg)
			if err != nil {
				return err
			}
			oids[i], formats[i] = oid, pgtype.BinaryFormatCode
			if values[i], err = types.Encode(oid, pgtype.BinaryFormatCode, arg, make([]byte, 0, size)); err != nil {
				return err
			}
		}
		batch.ExecParams(st.sql, values, oids, formats, binary)
	}
	results := conn.PgConn().ExecBatch(ctx, &batch)
	var failed error
	for i := 0; results.NextResult(); i++ {
		reader := results.ResultReader()
		st := statements[i]
		if st.rows == nil {
			tag, err := reader.Close()
			if err == nil && st.affected != nil {
				*st.affected = tag.RowsAffected()
			}
			continue
		}
		rows := pgx.RowsFromResultReader(types, reader)
		err := st.rows(rows)
		rows.Close()
		if err == nil {
			err = rows.Err()
		}
		if err != nil && failed == nil {
			failed = err
		}
	}
	if err := results.Close(); err != nil {
		return err
	}
	return failed
}

// typeOf returns the PostgreSQL type of an argument, and an estimate of its encoded size.
func typeOf(arg any) (oid uint32, size int, err error) {
	const header, item = 20, 12
	switch v := arg.(type) {
	case int32:
		return pgtype.Int4OID, 4, nil
	case int64:
		return pgtype.Int8OID, 8, nil
	case string:
		return pgtype.TextOID, len(v), nil
	case time.Time:
		return pgtype.TimestamptzOID, 8, nil
	case []int16:
		return pgtype.Int2ArrayOID, header + item*len(v), nil
	case []int32:
		return pgtype.Int4ArrayOID, header + item*len(v), nil
	case []int64:
		return pgtype.Int8ArrayOID, header + item*len(v), nil
	case []string:
		return pgtype.TextArrayOID, header + total(v, item), nil
	case [][]byte:
		return pgtype.ByteaArrayOID, header + total(v, item), nil
	case []time.Time, []*time.Time:
		return pgtype.TimestamptzArrayOID, header, nil
	default:
		return 0, 0, fmt.Errorf("pgstore: no PostgreSQL type for %T", arg)
	}
}

// total returns the size of all values, plus overhead for each.
func total[T string | []byte](values []T, overhead int) (n int) {
	for _, v := range values {
		n += len(v) + overhead
	}
	return n
}

// each returns a function that reads all rows. It calls scan once for each.
func each(scan func(pgx.Rows) error) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		for rows.Next() {
			if err := scan(rows); err != nil {
				return err
			}
		}
		return rows.Err()
	}
}

// one returns a function that reads one row into dest.
func one(dest ...any) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		if !rows.Next() {
			if err := rows.Err(); err != nil {
				return err
			}
			return pgx.ErrNoRows
		}
		return rows.Scan(dest...)
	}
}

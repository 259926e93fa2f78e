-- One value for each commit. The ID of a record is the value times 1024 plus its place in the commit.
-- CACHE 1 and the absence of CYCLE are what the order of records depends on.
CREATE SEQUENCE {schema}.commits AS bigint INCREMENT BY 1 MINVALUE 1 MAXVALUE 9007199254740991 NO CYCLE CACHE 1;

-- What is to be handled.
CREATE TABLE {schema}.pending (
	part        smallint    NOT NULL,
	id          bigint      NOT NULL,
	tag         integer     NOT NULL, -- random for each commit: an ID that comes back after a failover names no other record
	name        text        NOT NULL,
	member_id   text        NOT NULL,
	received    timestamptz NOT NULL,
	attempts    integer     NOT NULL DEFAULT 0,
	interrupted integer     NOT NULL DEFAULT 0,
	due         timestamptz,
	err         text        NOT NULL DEFAULT '',
	data        bytea       NOT NULL,
	PRIMARY KEY (part, id)
) WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);

-- What is parked, or was handled and is kept for a while.
CREATE TABLE {schema}.archive (
	id          bigint      NOT NULL,
	tag         integer     NOT NULL,
	part        smallint    NOT NULL,
	state       text        NOT NULL CHECK (state IN ('done', 'parked')),
	settled     timestamptz NOT NULL,
	name        text        NOT NULL,
	member_id   text        NOT NULL,
	received    timestamptz NOT NULL,
	attempts    integer     NOT NULL,
	interrupted integer     NOT NULL,
	err         text        NOT NULL,
	data        bytea       NOT NULL,
	PRIMARY KEY (id, tag)
);
CREATE INDEX archive_settled ON {schema}.archive (state, settled, id, tag);

-- Which process works which partition. The token grows each time that a lease gets another owner.
CREATE TABLE {schema}.leases (
	name  text COLLATE "C" PRIMARY KEY,
	owner text COLLATE "C" NOT NULL,
	until timestamptz      NOT NULL,
	token bigint           NOT NULL
) WITH (fillfactor = 50);

-- One row.
CREATE TABLE {schema}.store (
	one        boolean     PRIMARY KEY DEFAULT true CHECK (one),
	version    integer     NOT NULL,
	partitions integer     NOT NULL,
	created    timestamptz NOT NULL DEFAULT now()
);
INSERT INTO {schema}.store (version, partitions) VALUES (1, {partitions});

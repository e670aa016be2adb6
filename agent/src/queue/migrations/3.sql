-- Version 3: a checksum in every row. The agent fills it in for rows that are
-- there, in the same transaction.
--
-- An agent of before counts the columns of what it inserts. It takes this file
-- for damaged, and goes on in a copy of its own version with all that is in it.

-- FNV-1a, folded to 32 bits, of the name of the table and the columns before
-- it: a row that the flash changed looks like any other.
ALTER TABLE queue ADD COLUMN checksum INTEGER;
ALTER TABLE epoch ADD COLUMN checksum INTEGER;
ALTER TABLE ledger ADD COLUMN checksum INTEGER;
ALTER TABLE proof ADD COLUMN checksum INTEGER;
ALTER TABLE anchor ADD COLUMN checksum INTEGER;
ALTER TABLE start ADD COLUMN checksum INTEGER;
ALTER TABLE powered ADD COLUMN checksum INTEGER;
ALTER TABLE slot ADD COLUMN checksum INTEGER;
ALTER TABLE config ADD COLUMN checksum INTEGER;

-- The same of a batch without its bytes, so that a start can judge a batch
-- without reading them. NULL in rows of before; they have the other checksum.
ALTER TABLE batch ADD COLUMN header INTEGER;

-- queue.clean is not used any more, and always 0: every start checks the file.

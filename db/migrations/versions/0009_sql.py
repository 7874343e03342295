"""Functions and views for those who ask with SQL.

Nothing here reads or rewrites a table. No name of pgvector is looked up by the caller's search path: the extension lies where
a DBA has put it, and may be moved later.
"""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
compatible_from = "0001"

HELPERS = """
CREATE FUNCTION reelvec.vector_schema() RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT quote_ident(n.nspname) FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
  WHERE e.extname = 'vector' $$;

CREATE FUNCTION reelvec.bound_encoder(encoder_name text) RETURNS reelvec.encoders
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $bound$
DECLARE
  found_one reelvec.encoders;
  names text[];
BEGIN
  SELECT * INTO found_one FROM reelvec.encoders WHERE encoder = encoder_name;
  IF found_one.encoder IS NULL THEN
    -- the nearest name first: it shares the most pairs of letters
    SELECT array_agg(e.encoder ORDER BY (
      SELECT count(*) FROM generate_series(1, length(encoder_name) - 1) AS i
      WHERE position(substr(lower(encoder_name), i, 2) IN lower(e.encoder)) > 0) DESC, length(e.encoder), e.encoder)
    INTO names FROM reelvec.encoders e;
    RAISE EXCEPTION 'there is no encoder %; %', coalesce(quote_literal(encoder_name), 'NULL'),
      coalesce('did you mean ' || names[1] || '? There are ' || array_to_string(names, ', '),
        'none has been asked for yet: run enqueue')
      USING ERRCODE = 'undefined_object';
  ELSIF found_one.dim IS NULL THEN
    RAISE EXCEPTION 'encoder % has no vectors yet: no worker has loaded it', quote_literal(encoder_name)
      USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'reelvec status says what its videos wait for.';
  END IF;
  RETURN found_one;
END $bound$;
"""

# An index scan finds most of the nearest and may stop early, whatever it is told: then every vector is looked at.
# The settings of pgvector belong to the caller, so they are put back. They are not part of the function's definition, as a role
# that is no superuser may not write them there while the library is not loaded, nor restore such a function from a dump.
NEAREST_TO = """
CREATE FUNCTION reelvec.nearest_to(
  query real[], encoder_name text, k int DEFAULT 10, leave_out bigint DEFAULT NULL)
RETURNS TABLE (video_id bigint, distance double precision)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $nearest$
DECLARE
  chosen reelvec.encoders := reelvec.bound_encoder(encoder_name);
  wanted text[] := ARRAY[
    ['hnsw.iterative_scan', 'relaxed_order'],
    ['hnsw.ef_search', least(1000, greatest(100, 2 * k::bigint))::text],
    ['hnsw.max_scan_tuples', least(2147483647, greatest(20000, 10 * k::bigint))::text],
    ['hnsw.scan_mem_multiplier', '16']];
  settings_before text[];
  measured text;
  ids bigint[];
  distances double precision[];
BEGIN
  IF query IS NULL OR cardinality(query) <> chosen.dim THEN
    RAISE EXCEPTION 'vectors of % have % numbers, the one given has %',
      encoder_name, chosen.dim, coalesce(cardinality(query), 0)
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  measured := replace(format(
    'SELECT m.video_id, m.embedding::@.halfvec(%1$s) OPERATOR(@.<=>) $1::@.vector::@.halfvec(%1$s) AS distance'
    ' FROM reelvec.embeddings m WHERE m.encoder_id = %2$s AND m.video_id IS DISTINCT FROM $2',
    chosen.dim, chosen.encoder_id), '@', reelvec.vector_schema());
  EXECUTE format('SELECT $1::%s.vector IS NULL', reelvec.vector_schema()) USING query;  -- loads the library
  settings_before := ARRAY(SELECT current_setting(wanted[i][1]) FROM generate_subscripts(wanted, 1) AS i ORDER BY i);
  PERFORM set_config(wanted[i][1], wanted[i][2], true) FROM generate_subscripts(wanted, 1) AS i;
  -- + 0: the planner takes the rows of the index for sorted, which in relaxed order they nearly are
  EXECUTE 'SELECT array_agg(video_id ORDER BY distance + 0, video_id), array_agg(distance ORDER BY distance + 0, video_id)'
    ' FROM (' || measured || ' ORDER BY distance LIMIT $3) n' INTO ids, distances USING query, leave_out, k;
  IF k IS NULL OR coalesce(cardinality(ids), 0) < k THEN
    EXECUTE 'SELECT array_agg(video_id), array_agg(distance) FROM (SELECT * FROM (' || measured
      || ' OFFSET 0) every ORDER BY distance, video_id LIMIT $3) n' INTO ids, distances USING query, leave_out, k;
  END IF;
  PERFORM set_config(wanted[i][1], settings_before[i], true) FROM generate_subscripts(wanted, 1) AS i;
  RETURN QUERY SELECT * FROM unnest(ids, distances);
END $nearest$;
"""

NEAREST = """
CREATE OR REPLACE FUNCTION reelvec.nearest(video bigint, encoder_name text, k int DEFAULT 10)
RETURNS TABLE (video_id bigint, distance double precision)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $nearest$
DECLARE
  chosen reelvec.encoders := reelvec.bound_encoder(encoder_name);
  query real[];
  why text;
BEGIN
  SELECT m.embedding::real[] INTO query FROM reelvec.embeddings m
  WHERE m.encoder_id = chosen.encoder_id AND m.video_id = video;
  IF FOUND THEN
    RETURN QUERY SELECT * FROM reelvec.nearest_to(query, encoder_name, k, video);
    RETURN;
  END IF;
  SELECT CASE
      WHEN j.video_id IS NULL THEN 'it was never queued'
      WHEN NOT chosen.encoder_id = ANY(j.encoders) THEN 'it was not asked for; enqueue --backbone ' || chosen.backbone || ' asks'
      ELSE 'its job is ' || j.state || coalesce(' (' || j.error_code || ')', '') END
  INTO why FROM reelvec.videos v LEFT JOIN reelvec.jobs j ON j.video_id = v.video_id WHERE v.video_id = video;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'there is no video %', coalesce(video::text, 'NULL')
      USING ERRCODE = 'no_data_found', HINT = 'SELECT video_id, uri FROM reelvec.videos shows their numbers.';
  END IF;
  RAISE NOTICE 'video % has no vector of % yet: %', video, encoder_name, why;
END $nearest$;
"""

ENCODER_VIEW = """
CREATE FUNCTION reelvec.comment_encoder_view(view_name text, bound reelvec.encoders) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $comment$
BEGIN
  EXECUTE format('COMMENT ON VIEW reelvec.%I IS %L', view_name, format(
    'The vectors of encoder %s, one of %s numbers a video, in the type its index is for. Near ones: ORDER BY embedding <=> ...',
    bound.encoder, bound.dim));
END $comment$;

CREATE OR REPLACE FUNCTION reelvec.make_encoder_view(encoder_name text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $make$
DECLARE
  bound reelvec.encoders;
  view_name text := replace(encoder_name, '-', '_');
BEGIN
  SELECT * INTO bound FROM reelvec.encoders WHERE encoder = encoder_name AND dim IS NOT NULL;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'encoder % is not bound', encoder_name USING ERRCODE = 'no_data_found';
  END IF;
  EXECUTE format(
    'CREATE VIEW reelvec.%I AS SELECT video_id, embedding::%s.halfvec(%s) AS embedding, dtype, created_at'
    ' FROM reelvec.embeddings WHERE encoder_id = %s', view_name, reelvec.vector_schema(), bound.dim, bound.encoder_id);
  PERFORM reelvec.comment_encoder_view(view_name, bound);
END $make$;

SELECT reelvec.comment_encoder_view(c.relname, e) FROM reelvec.encoders e
JOIN pg_catalog.pg_class c ON c.relname = replace(e.encoder, '-', '_')
WHERE c.relkind = 'v' AND c.relnamespace = 'reelvec'::regnamespace AND e.dim IS NOT NULL;
"""

# Of several taggers one speaks for a video: the user's own labels before those that come with reelvec, the latest of his
# first; of ours the first declared, which is English. Never two rows a video, and no video is lost when a new label set has
# scored only some: so it is chosen for each video, by its index, and `tagger` says which it was.
BEST_TAGS = """
CREATE VIEW reelvec.best_tags AS
SELECT v.video_id, best.tag, best.probability, best.tagger
FROM reelvec.videos v
CROSS JOIN LATERAL (
  SELECT s.tag, s.probability, t.tagger
  FROM reelvec.scores s JOIN reelvec.taggers t USING (tagger_id) JOIN reelvec.label_sets l USING (label_set_id)
  WHERE s.video_id = v.video_id
  ORDER BY CASE WHEN l.label_set IN ('en', 'ru', 'names') THEN t.tagger_id ELSE -t.tagger_id END LIMIT 1) best;
"""

# Addresses stay what they are, because they are read by: a name that is no UTF-8, or has a % in it, has one spelling only.
READABLE = r"""
CREATE FUNCTION reelvec.readable(uri text) RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT
SET search_path = pg_catalog, pg_temp AS $readable$
BEGIN
  IF uri LIKE 's3:%' OR position('%' IN uri) = 0 THEN
    RETURN uri;
  END IF;
  RETURN (
    SELECT convert_from(string_agg(
      CASE WHEN part[1] ~ '^%[0-9A-Fa-f]{2}$' THEN decode(substr(part[1], 2), 'hex') ELSE convert_to(part[1], 'UTF8') END,
      '' ORDER BY place), 'UTF8')
    FROM regexp_matches(uri, '%[0-9A-Fa-f]{2}|[^%]+|%', 'g') WITH ORDINALITY AS parts (part, place));
EXCEPTION WHEN character_not_in_repertoire OR untranslatable_character THEN
  RETURN uri;
END $readable$;
"""


def upgrade() -> None:
    for made in (HELPERS, NEAREST_TO, NEAREST, ENCODER_VIEW, BEST_TAGS, READABLE):
        op.execute(made)

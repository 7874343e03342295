"""What people ask of results in SQL: the nearest videos of a category, the nearest windows, and where
an encoder's numbers come from.

A nullable column of a small table, and functions. `nearest` and `nearest_to` get one more argument
with a default, so whoever calls them as before gets what he got.
"""

from __future__ import annotations

from alembic import op

revision = "0013"
down_revision = "0012"
compatible_from = "0001"

ORIGIN = "ALTER TABLE reelvec.encoders ADD COLUMN IF NOT EXISTS origin text"

# The distance is that of the index, so that both ways of looking give the same numbers. A category of few vectors is looked
# through: an index would walk past a thousand others for each of them. A large one is filtered while the index is walked;
# a subquery is no join, so the planner cannot sort first. What an index leaves out (it may stop early, whatever it is told)
# is found by looking at every vector. `hnsw.ef_search` of 400: of a million vectors it finds 91 of 100, 100 finds 87.
# The settings of pgvector belong to the caller, so they are put back. They are not part of the function's definition, as a
# role that is no superuser may not write them there while the library is not loaded, nor restore such a function from a dump.
NEAREST_VECTORS = """
CREATE FUNCTION reelvec.nearest_vectors(
  of_windows boolean, query real[], encoder_name text, k int, leave_out bigint, category text)
RETURNS TABLE (video_id bigint, window_index smallint, distance double precision)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $nearest$
DECLARE
  few CONSTANT int := 5000;
  chosen reelvec.encoders := reelvec.bound_encoder(encoder_name);
  source text := CASE WHEN of_windows THEN 'window_embeddings' ELSE 'embeddings' END;
  wanted text[] := ARRAY[
    ['hnsw.iterative_scan', 'relaxed_order'],
    ['hnsw.ef_search', least(1000, greatest(400, 2 * k::bigint))::text],
    ['hnsw.max_scan_tuples', least(2147483647, greatest(20000, 10 * k::bigint))::text],
    ['hnsw.scan_mem_multiplier', '16']];
  settings_before text[];
  measured text;
  members bigint[];
  ids bigint[];
  windows smallint[];
  distances double precision[];
BEGIN
  IF query IS NULL OR cardinality(query) <> chosen.dim THEN
    RAISE EXCEPTION 'vectors of % have % numbers, the one given has %',
      encoder_name, chosen.dim, coalesce(cardinality(query), 0)
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  measured := replace(format(
    'SELECT m.video_id, %s AS window_index,'
    ' m.embedding::@.halfvec(%s) OPERATOR(@.<=>) $1::@.vector::@.halfvec(%2$s) AS distance'
    ' FROM reelvec.%I m WHERE m.encoder_id = %s AND m.video_id IS DISTINCT FROM $2',
    CASE WHEN of_windows THEN 'm.window_index' ELSE 'NULL::smallint' END, chosen.dim, source, chosen.encoder_id),
    '@', reelvec.vector_schema());
  IF category IS NOT NULL THEN
    EXECUTE format('SELECT array_agg(video_id) FROM (SELECT m.video_id FROM reelvec.videos v JOIN reelvec.%I m'
      ' ON m.video_id = v.video_id AND m.encoder_id = %s WHERE v.category = $1 LIMIT %s) members',
      source, chosen.encoder_id, few) INTO members USING category;
    IF members IS NULL AND NOT EXISTS (SELECT FROM reelvec.videos v WHERE v.category = nearest_vectors.category) THEN
      RAISE EXCEPTION 'no video has the category %', quote_literal(category)
        USING ERRCODE = 'no_data_found', HINT = 'SELECT DISTINCT category FROM reelvec.videos shows them.';
    END IF;
    measured := measured || CASE WHEN coalesce(cardinality(members), 0) < few THEN ' AND m.video_id = ANY ($4)'
      ELSE ' AND (SELECT v.category FROM reelvec.videos v WHERE v.video_id = m.video_id) = $5' END;
  END IF;
  IF category IS NULL OR cardinality(members) = few THEN
    EXECUTE format('SELECT $1::%s.vector IS NULL', reelvec.vector_schema()) USING query;  -- loads the library
    settings_before := ARRAY(SELECT current_setting(wanted[i][1]) FROM generate_subscripts(wanted, 1) AS i ORDER BY i);
    PERFORM set_config(wanted[i][1], wanted[i][2], true) FROM generate_subscripts(wanted, 1) AS i;
    -- + 0: the planner takes the rows of the index for sorted, which in relaxed order they nearly are
    EXECUTE 'SELECT array_agg(video_id ORDER BY distance + 0, video_id, window_index),'
      ' array_agg(window_index ORDER BY distance + 0, video_id, window_index),'
      ' array_agg(distance ORDER BY distance + 0, video_id, window_index)'
      ' FROM (' || measured || ' ORDER BY distance LIMIT $3) n'
      INTO ids, windows, distances USING query, leave_out, k, members, category;
    PERFORM set_config(wanted[i][1], settings_before[i], true) FROM generate_subscripts(wanted, 1) AS i;
  END IF;
  IF k IS NULL OR coalesce(cardinality(ids), 0) < k THEN
    EXECUTE 'SELECT array_agg(video_id), array_agg(window_index), array_agg(distance) FROM (SELECT * FROM (' || measured
      || ' OFFSET 0) every ORDER BY distance, video_id, window_index LIMIT $3) n'
      INTO ids, windows, distances USING query, leave_out, k, members, category;
  END IF;
  RETURN QUERY SELECT * FROM unnest(ids, windows, distances);
END $nearest$;
"""

NEAREST_TO = """
DROP FUNCTION reelvec.nearest_to(real[], text, int, bigint);
CREATE FUNCTION reelvec.nearest_to(
  query real[], encoder_name text, k int DEFAULT 10, leave_out bigint DEFAULT NULL, category text DEFAULT NULL)
RETURNS TABLE (video_id bigint, distance double precision)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $nearest$
  SELECT n.video_id, n.distance FROM reelvec.nearest_vectors(false, query, encoder_name, k, leave_out, category) n
$nearest$;

CREATE FUNCTION reelvec.nearest_windows_to(
  query real[], encoder_name text, k int DEFAULT 10, leave_out bigint DEFAULT NULL, category text DEFAULT NULL)
RETURNS TABLE (video_id bigint, window_index smallint, start_seconds real, end_seconds real, distance double precision)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $nearest$
  SELECT n.video_id, n.window_index, w.start_seconds, w.end_seconds, n.distance
  FROM reelvec.nearest_vectors(true, query, encoder_name, k, leave_out, category) n
  JOIN reelvec.window_embeddings w ON w.video_id = n.video_id AND w.window_index = n.window_index
    AND w.encoder_id = (SELECT e.encoder_id FROM reelvec.encoders e WHERE e.encoder = encoder_name)
  ORDER BY n.distance, n.video_id, n.window_index
$nearest$;
"""

NEAREST = """
CREATE FUNCTION reelvec.explain_no_vector(video bigint, encoder_name text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $explain$
DECLARE
  chosen reelvec.encoders := reelvec.bound_encoder(encoder_name);
  why text;
BEGIN
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
END $explain$;

DROP FUNCTION reelvec.nearest(bigint, text, int);
CREATE FUNCTION reelvec.nearest(video bigint, encoder_name text, k int DEFAULT 10, category text DEFAULT NULL)
RETURNS TABLE (video_id bigint, distance double precision)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $nearest$
DECLARE
  chosen reelvec.encoders := reelvec.bound_encoder(encoder_name);
  query real[];
BEGIN
  SELECT m.embedding::real[] INTO query FROM reelvec.embeddings m
  WHERE m.encoder_id = chosen.encoder_id AND m.video_id = video;
  IF FOUND THEN
    RETURN QUERY SELECT * FROM reelvec.nearest_to(query, encoder_name, k, video, category);
    RETURN;
  END IF;
  PERFORM reelvec.explain_no_vector(video, encoder_name);
END $nearest$;

CREATE FUNCTION reelvec.nearest_windows(
  video bigint, of_window int, encoder_name text, k int DEFAULT 10, category text DEFAULT NULL)
RETURNS TABLE (video_id bigint, window_index smallint, start_seconds real, end_seconds real, distance double precision)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $nearest$
DECLARE
  chosen reelvec.encoders := reelvec.bound_encoder(encoder_name);
  query real[];
  windows bigint;
BEGIN
  SELECT m.embedding::real[] INTO query FROM reelvec.window_embeddings m
  WHERE m.video_id = video AND m.encoder_id = chosen.encoder_id AND m.window_index = of_window;
  IF FOUND THEN
    RETURN QUERY SELECT * FROM reelvec.nearest_windows_to(query, encoder_name, k, video, category);
    RETURN;
  END IF;
  SELECT count(*) INTO windows FROM reelvec.window_embeddings m
  WHERE m.video_id = video AND m.encoder_id = chosen.encoder_id;
  IF windows > 0 THEN
    RAISE EXCEPTION 'video % has no window % of %; it has 0 to %',
      video, coalesce(of_window::text, 'NULL'), encoder_name, windows - 1 USING ERRCODE = 'no_data_found';
  END IF;
  PERFORM reelvec.explain_no_vector(video, encoder_name);
END $nearest$;
"""

# The view's columns are those of embeddings, and say what those say.
ENCODER_VIEW_COMMENTS = """
CREATE OR REPLACE FUNCTION reelvec.comment_encoder_view(view_name text, bound reelvec.encoders) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $comment$
DECLARE
  part record;
BEGIN
  EXECUTE format('COMMENT ON VIEW reelvec.%I IS %L', view_name, format(
    'The vectors of encoder %s, one of %s numbers a video, in the type its index is for. Near ones: ORDER BY embedding <=> ...',
    bound.encoder, bound.dim));
  FOR part IN
    SELECT seen.attname AS name, col_description(source.attrelid, source.attnum) AS words
    FROM pg_attribute seen JOIN pg_attribute source USING (attname)
    WHERE seen.attrelid = format('reelvec.%I', view_name)::regclass AND seen.attnum > 0
      AND source.attrelid = 'reelvec.embeddings'::regclass
  LOOP
    EXECUTE format('COMMENT ON COLUMN reelvec.%I.%I IS %L', view_name, part.name, part.words);
  END LOOP;
END $comment$;
"""


def upgrade() -> None:
    for made in (ORIGIN, NEAREST_VECTORS, NEAREST_TO, NEAREST, ENCODER_VIEW_COMMENTS):
        op.execute(made)

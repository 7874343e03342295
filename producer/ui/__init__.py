"""The page `reelvec ui`: what the fleet does now, and the videos with their neighbours."""

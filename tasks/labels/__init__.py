"""Stage ``labels``: the judgements of many raters become one label."""

"""From a row to an example's texts: fields, templates, options, exemplars."""

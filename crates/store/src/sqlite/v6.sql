create index documents_by_facet on documents (kind, project, facet);

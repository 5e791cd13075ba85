alter table generations add column target text;

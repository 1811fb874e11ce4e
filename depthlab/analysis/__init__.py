"""What runs and tables show: records, frames and inspections in, frames and numbers out.

Statistics, and how runs are found, chosen and named, belong here; tables, captions, pictures and pages do not.
"""

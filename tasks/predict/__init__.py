"""A new medium to an answer: the stages of the pipeline in a layout of their own, and a model.

``predict`` has no row in the table of stages: it calls the others.
"""

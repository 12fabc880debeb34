"""The same models, policies and routes on Ray Serve: several replicas, each with its own batcher, behind one address.

`autoscale` decides how many replicas there should be, and `gauge` what each of them tells it; both are pure. `replica`
runs the models, `front` passes requests on, and only `deploy` knows Ray.
"""

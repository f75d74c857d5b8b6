def test_the_prefect_server_imports_with_the_pinned_fastapi():
    # fastapi 0.155 and later fail here with "unexpected keyword argument 'min_items'"
    import prefect.server.api.server as server

    assert server.create_app is not None

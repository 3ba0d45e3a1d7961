import servers


def test_there_is_a_real_server_to_test_against():
    assert servers.kinds(), servers.HOW_TO_GET_ONE

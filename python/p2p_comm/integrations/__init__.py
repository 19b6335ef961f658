"""What a framework needs beside `agent.tools()`. Each module imports its framework, and only that one.

Every module has

* `tools(agent)`: the agent's tools as the framework wants them;
* `handler(framework_agent)`: a handler for `p2p_comm.serve`, which finds it by itself.
"""
